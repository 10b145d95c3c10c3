internal import MeshHTTP
internal import MeshLoop

// How long a client of HTTP/1 may take for what, and the end of its connection.

extension HTTP1ServerConnection {
    /// How long a client that was told to go has to take the last response, after everything has left us.
    static let lingerTimeout = Duration.seconds(5)
    /// How often it may not even have left us, with nothing moving meanwhile.
    static let lingersMax = 24

    /// What the timer runs for.
    enum Wait {
        case nothing
        /// Between two requests: ``ExchangeConfiguration/idleTimeout``, at the end of the waypoint
        /// ``ExchangeConfiguration/drainQuiet``.
        case request
        /// The first bytes of a head have come: ``ExchangeConfiguration/headTimeout`` for the rest of it.
        case head
        /// The client has left so much unread that nothing more is made for it, `queued` bytes when it was looked at:
        /// ``ExchangeConfiguration/stallTimeout``.
        case reading(queued: Int)
        /// FIN is behind what was sent; `left` more looks at it while nothing moves.
        case end(queued: Int, left: Int)
    }

    func wait(for wait: Wait) {
        let configuration = self.server.configuration
        let limit: Duration
        switch wait {
        case .nothing:
            self.awaited = .nothing
            self.timer?.cancel()
            return
        case .request: limit = self.isDraining ? configuration.drainQuiet : configuration.idleTimeout
        case .head: limit = configuration.headTimeout
        case .reading: limit = configuration.stallTimeout
        case .end: limit = Self.lingerTimeout
        }
        self.awaited = wait
        let timer = self.timer ?? LoopTimer(loop: self.server.loop) { [unowned self] in self.expired() }
        self.timer = timer
        timer.arm(after: limit)
    }

    func awaitReading() {
        if case .reading = self.awaited { return }
        self.wait(for: .reading(queued: self.channel.queuedBytes))
    }

    /// So much that more may be made.
    func hasRead() {
        guard case .reading = self.awaited else { return }
        self.wait(for: self.exchange != nil ? .nothing : self.hasHalfHead ? .head : .request)
    }

    private func expired() {
        let awaited = self.awaited
        self.awaited = .nothing
        let now = self.channel.queuedBytes
        switch awaited {
        case .nothing: break
        case .request: self.close()
        case .head:
            self.refuse(
                HTTP1Error(408, "no complete head within \(self.server.configuration.headTimeout)"), .idleTimeout)
        case .reading(let queued): if now < queued { self.wait(for: .reading(queued: now)) } else { self.giveUp() }
        case .end(let queued, let left):
            if self.channel.leave() { return self.closed() }
            // A slow client is waited for as long as it takes something.
            if now < queued { return self.wait(for: .end(queued: now, left: Self.lingersMax)) }
            if left > 0 { return self.wait(for: .end(queued: now, left: left - 1)) }
            self.channel.reset()
            self.closed()
        }
    }

    private func giveUp() {
        let exchange = self.exchange
        self.exchange = nil
        self.channel.reset()
        self.closed()
        exchange?.clientLeft(
            .idleTimeout, details: "the client has read nothing for \(self.server.configuration.stallTimeout)")
    }

    // MARK: The end

    /// FIN behind what was sent; the client has a while to close its side.
    func close() {
        guard !self.isClosing else { return }
        self.isClosing = true
        self.channel.finish()
        self.channel.wantsMore()
        if !self.channel.isClosed { self.wait(for: .end(queued: self.channel.queuedBytes, left: Self.lingersMax)) }
    }

    func closed() {
        self.timer?.cancel()
        self.timer = nil
        self.server.closed(self)
    }

    func drain() {
        self.isDraining = true
        // Of a request that has begun to arrive the rest is waited for as ever.
        if self.exchange == nil, self.reader.isIdle, !self.isClosing { self.wait(for: .request) }
    }
}
