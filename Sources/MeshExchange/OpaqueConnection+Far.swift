internal import MeshTunnel

extension OpaqueConnection {
    /// The endpoint's side.
    final class Far: PipeConsumer {
        private let near: OpaqueConnection
        let channel: any ByteChannel

        init(_ near: OpaqueConnection, _ channel: any ByteChannel) {
            self.near = near
            self.channel = channel
        }

        func pause() { self.channel.pause() }
        func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int { self.near.receivedFromFar(bytes) }
        func pipeFinished() { self.near.farFinished() }
        func pipeDrained() { self.near.farDrained() }
        func pipeClosed(reset: Bool) { self.near.farClosed(reset: reset) }
    }
}
