internal import CMeshLoop
public import MeshModel

/// UDP sockets in a chosen network namespace; captured name queries are the only datagrams of the mesh.
extension Sockets {
    public struct DatagramOptions: Sendable {
        /// Borrowed descriptor of the namespace to be born in; nil: the caller's own.
        public var namespace: CInt?
        /// Port 0 takes a free one; an all-zero address leaves the choice to each datagram's route.
        public var local: IPEndpoint
        /// With an IPv6 address: IPv4 too.
        public var isDualStack = false
        /// Unlike a listener's, a failure is an error: the successor of this process could not bind beside it.
        public var reusesPort = false
        /// SO_MARK; 0 sets none.
        public var mark: UInt32 = 0

        public init(namespace: CInt? = nil, local: IPEndpoint) {
            self.namespace = namespace
            self.local = local
        }
    }

    /// A bound socket; the caller owns the descriptor.
    public static func datagram(
        _ options: DatagramOptions
    ) throws(SystemError) -> (descriptor: CInt, port: UInt16) {
        var raw = cml_datagram_options()
        raw.network_namespace = options.namespace ?? -1
        raw.local = cml_endpoint(options.local)
        raw.dual_stack = options.isDualStack
        raw.reuse_port = options.reusesPort
        raw.mark = options.mark
        var result = cml_listen_result()
        let descriptor = cml_datagram(&raw, &result)
        guard descriptor >= 0 else {
            throw SystemError(call: "\(String(cString: result.step)) on UDP \(options.local)", code: -descriptor)
        }
        return (descriptor, result.port)
    }
}
