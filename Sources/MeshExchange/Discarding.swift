internal import MeshLoop
internal import MeshTunnel

/// Waits for the other side's end of a channel that has finished, and not for long.
final class Discarding: PipeConsumer {
    private let channel: any ByteChannel
    private var timer: LoopTimer?

    private var roundsLeft = HTTP1ServerConnection.lingersMax

    init(_ channel: any ByteChannel, _ loop: EventLoop) {
        self.channel = channel
        let timer = LoopTimer(loop: loop) { [unowned self] in
            if self.channel.leave() { return }
            self.roundsLeft -= 1
            if self.roundsLeft == 0 { return self.channel.reset() }
            self.timer?.arm(after: HTTP1ServerConnection.lingerTimeout)
        }
        self.timer = timer
        timer.arm(after: HTTP1ServerConnection.lingerTimeout)
        channel.wantsMore()
    }

    func pipeReceived(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.count }
    func pipeFinished() {}
    func pipeDrained() {}
    func pipeClosed(reset: Bool) {
        self.timer?.cancel()
        self.timer = nil
    }
}
