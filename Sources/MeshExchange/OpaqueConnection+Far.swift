internal import MeshIdentity
internal import MeshTunnel

extension OpaqueConnection {
    /// The endpoint's side.
    final class Far: PipeConsumer {
        private let near: OpaqueConnection
        var channel: (any ByteChannel)?
        private(set) var isReady = false
        var identity: WorkloadIdentity?

        init(_ near: OpaqueConnection) { self.near = near }

        func connected(_ identity: WorkloadIdentity?) {
            self.isReady = true
            self.identity = identity
            self.near.connected(self)
        }

        func notConnected(_ reason: String) { self.near.notConnected(self, reason) }
        func pause() { self.channel?.pause() }
        func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int { self.near.receivedFromFar(bytes) }
        func pipeFinished() { self.near.farFinished() }
        func pipeDrained() { self.near.farDrained() }
        func pipeClosed(reset: Bool) {
            guard self.isReady else { return }
            self.near.farClosed(reset: reset)
        }
    }
}
