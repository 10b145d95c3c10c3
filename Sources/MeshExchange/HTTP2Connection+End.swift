internal import MeshHTTP

// How a connection ends, for one reason or another.

extension HTTP2Connection {
    /// - Parameter last: the highest stream that is or may be served; nil: of those that the peer has opened.
    func goAway(_ code: HTTP2ErrorCode, _ text: String = "", last: HTTP2StreamID? = nil) {
        let last = last ?? (self.role == .server ? self.lastStream : HTTP2StreamID.connection)
        self.control { HTTP2FrameWriter.appendGoAway(lastStream: last, code: code, debug: text, to: &$0) }
    }

    /// Tells the peer why and goes.
    func close(_ code: HTTP2ErrorCode, _ text: String) {
        guard !self.isOver else { return }
        self.goAway(code, text)
        self.isOver = true
        self.channel.finish()
        if !self.channel.isClosed { self.channel.consumer = Discarding(self.channel, self.server.loop) }
        self.tellStreams(text)
    }

    /// The peer does not read: nothing can be told it.
    func abandon(_ text: String) {
        guard !self.isOver else { return }
        self.isOver = true
        self.channel.reset()
        self.tellStreams(text)
    }

    /// The peer is gone, or will not speak again.
    func lost(_ text: String) {
        guard !self.isOver else { return }
        // Everything was answered: what is on its way to it may arrive.
        if self.streams.isEmpty, !self.channel.isClosed { return self.close(.noError, "") }
        self.isOver = true
        self.channel.consumer = nil
        if !self.channel.isClosed { self.channel.reset() }
        self.tellStreams(text)
    }

    private func tellStreams(_ text: String) {
        self.stopWatch()
        let streams = self.streams
        self.streams = [:]
        self.ready = []
        self.readyAt = 0
        for stream in streams.values {
            stream.isOpen = false
            stream.isQueued = false
        }
        for stream in streams.values { stream.connectionLost(text) }
        self.ended()
    }
}
