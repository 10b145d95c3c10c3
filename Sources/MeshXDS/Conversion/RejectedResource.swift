/// A resource that the receiver refuses, and why. It is named in the NACK and in the log.
public struct RejectedResource: Error, Hashable, Sendable, CustomStringConvertible {
    public let name: String
    public let reason: String

    public init(name: String, reason: String) {
        self.name = name
        self.reason = reason
    }

    public var description: String { "\(self.name): \(self.reason)" }
}

/// The resource types of this mesh, as xDS names them.
public enum XDSType {
    public static let address = "type.googleapis.com/istio.workload.Address"
    public static let authorization = "type.googleapis.com/istio.security.Authorization"
}
