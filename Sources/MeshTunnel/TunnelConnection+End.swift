internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// The end of a tunnel: in order (GOAWAY, the last stream, linger) or at once.

extension TunnelConnection {
    /// Takes no new streams of ours and tells the peer; closes when the last one has ended.
    ///
    /// A server says it twice (RFC 9113, 6.8): first without a last stream, so that CONNECTs that are already on their
    /// way are still served, then, when a PING has been there and back, with the last one it took.
    func goAway() {
        guard self.phase != .closed, !self.isDraining else { return }
        self.draining = self.isServer && self.phase == .open ? .announced : .final
        self.leavePool()
        if self.phase == .open { self.sayGoAway() }
        self.wantsTurn()
    }

    /// Ends in order but soon: nothing new is taken, not even what is on its way, which the peer may send elsewhere.
    /// Whoever calls has ended the streams; what they said last still goes out, where a close would be a RST that
    /// overtakes it.
    func retire(_ reason: TunnelError) {
        guard self.phase == .open else { return self.close(reason) }
        self.drainReason = reason
        self.leavePool()
        switch self.draining {
        case .no:
            self.draining = .final
            self.sayGoAway()
        case .announced: self.refuseNewStreams()
        case .final, .lingering: break
        }
        self.wantsTurn()
    }

    private func leavePool() {
        guard let poolID else { return }
        self.worker.pool.forget(poolID)
        self.worker.pooled[poolID] = nil
    }

    private func sayGoAway() {
        self.hasSaidGoAway = true
        guard self.draining == .announced else {
            HTTP2FrameWriter.appendGoAway(lastStream: self.lastPeerStream, code: .noError, to: &self.control)
            return
        }
        HTTP2FrameWriter.appendGoAway(
            lastStream: HTTP2StreamID(HTTP2StreamID.largest), code: .noError, to: &self.control)
        HTTP2FrameWriter.appendPing(opaque: Self.announcementPing, ack: false, to: &self.control)
        self.timer?.arm(after: Self.announcementTimeout)
    }

    /// The peer has heard the first GOAWAY, or had the time to.
    func refuseNewStreams() {
        guard self.draining == .announced else { return }
        self.draining = .final
        self.sayGoAway()
        if self.isProven {
            self.armKeepalive()
        } else {
            self.timer?.arm(after: self.worker.configuration.handshakeTimeout)
        }
        self.wantsTurn()
    }

    /// Called at the end of each turn of a tunnel that drains.
    func finishDrainIfDone() {
        guard self.draining == .final, self.streams.isEmpty, self.waiting.isEmpty else { return }
        guard self.phase == .open else { return self.close(self.drainReason) }
        guard self.control.isEmpty, self.unsent.isEmpty else { return }
        self.draining = .lingering
        if !self.isServer {
            // Our part is over, and the peer's bytes may still be on their way: a close that leaves them unread would be
            // a RST, and that would overtake the last bytes of the last stream.
            self.sayGoodbye(.noError, "")
            Sockets.finishWriting(self.descriptor)
        }
        self.timer?.arm(after: Self.lingerTimeout)
    }

    /// Ends the connection now, and every stream with it.
    func close(_ error: TunnelError, code: HTTP2ErrorCode = .noError) {
        guard self.phase != .closed else { return }
        let wasOpen = self.phase == .open
        self.phase = .closed
        self.forgetExpectation()
        self.timer?.cancel()
        self.timer = nil
        if wasOpen { self.sayGoodbye(code, "\(error)") }
        let (streams, waiting) = (self.streams, self.waiting)
        self.streams = [:]
        self.waiting = []
        self.ready = []
        self.gathered = nil
        self.gatheredCount = 0
        self.gatheredBytes = 0
        self.worker.closed(self)
        if !self.isProven {
            self.worker.shared.counters.failedHandshakes.add(1, ordering: .relaxed)
            if self.isServer {
                self.worker.shared.observer.refusedEarly(
                    direction: .inbound, source: self.peer, destination: self.local, error.refusal)
            }
        }
        for stream in streams.values { stream.tunnelLost(error) }
        for connection in waiting { connection.tunnelFailed(error, isStale: self.isProven) }
        self.tls = nil
        self.close()
        self.release?()
    }

    /// GOAWAY and close_notify, if they can go at once; the peer must not be needed for our end.
    private func sayGoodbye(_ code: HTTP2ErrorCode, _ text: String) {
        guard let tls, self.unsent.isEmpty else { return }
        if code != .noError || !self.hasSaidGoAway || self.draining == .announced {
            HTTP2FrameWriter.appendGoAway(
                lastStream: self.lastPeerStream, code: code, debug: code == .noError ? "" : text, to: &self.control)
        }
        let messages = self.loop.scratch.messages
        var batch = RecordBatch(messages, tls)
        self.takeControl(&batch)
        self.control = []
        batch.seal()
        guard !batch.hasFailed else { return }
        // SAFETY: `start` bytes are used; the close_notify record goes behind them.
        let total =
            batch.start + tls.closeNotify(into: UnsafeMutableRawBufferPointer(rebasing: messages[batch.start...]))
        _ = Sockets.write(self.descriptor, messages.baseAddress!, total)
    }
}
