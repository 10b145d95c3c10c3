/// The engine has no threads to work with: the machine gave it no descriptors.
public struct TunnelStartError: Error, Hashable, CustomStringConvertible {
    public let reason: String

    public var description: String { "the tunnel cannot start: \(self.reason); raise the limit of open files" }
}
