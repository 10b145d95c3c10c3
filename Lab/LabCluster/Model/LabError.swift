/// Why the lab did not do what it was asked: what was wrong, and what to do next.
public struct LabError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
