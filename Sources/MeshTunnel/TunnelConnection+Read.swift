internal import Glibc
internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// Reading: socket → TLS → frames, all in the loop's scratch buffer.
//
// SAFETY of this file: records are opened where they were read, and payload slices and gathered vectors point there.
// They are delivered before the buffer is filled again and before `readBatch` returns.

extension TunnelConnection {
    func readBatch() {
        for _ in 0..<Self.readsPerTurnMax {
            let received = self.loop.scratch.received
            let kept = self.remainder.move(to: received.baseAddress!)
            let result = Sockets.read(self.descriptor, received.baseAddress! + kept, ScratchBuffers.readBytes)
            guard case .moved(let count) = result else {
                self.remainder.keep(UnsafeRawBufferPointer(rebasing: received[..<kept]))
                self.hasMoreToRead = false
                return result == .wouldBlock ? () : self.close(.peerClosed(self.peer))
            }
            self.heard()
            self.opened(UnsafeMutableRawBufferPointer(rebasing: received[..<(kept + count)]))
            if self.phase == .closed { return }
            // A short read emptied the socket, and what comes later is a new edge. Not so with FIN: its edge may
            // have come already, and only a read that answers "ended" shows it.
            if count < ScratchBuffers.readBytes, !self.sawEnd {
                self.hasMoreToRead = false
                return
            }
        }
        self.wantsTurn()
    }

    /// Everything in `ciphertext` is used up here, or kept: nothing stays that no edge will ever announce.
    private func opened(_ ciphertext: UnsafeMutableRawBufferPointer) {
        guard let tls else { return }
        var at = 0
        if self.phase == .handshaking {
            tls.feed(UnsafeRawBufferPointer(ciphertext))
            self.advanceHandshake()
            guard self.phase == .open else { return }
            at = ciphertext.count - tls.unusedBytes
        }
        while self.phase == .open {
            let rest = UnsafeMutableRawBufferPointer(rebasing: ciphertext[at...])
            switch tls.open(rest) {
            case .data(let bytes, let text):
                let start = TLSRecord.headerBytes
                self.parse(UnsafeRawBufferPointer(rebasing: rest[start..<(start + text)]))
                at += bytes
            case .nothing(let bytes):
                // The peer may have asked for a record of ours.
                self.wantsTurn()
                at += bytes
            case .wantsMore:
                self.flushGathered()
                if self.phase == .open { self.remainder.keep(UnsafeRawBufferPointer(rest)) }
                return
            case .closed:
                self.flushGathered()
                self.close(.peerClosed(self.peer))
            case .failed:
                self.flushGathered()
                self.close(.tlsFailed(self.peer, tls.errorText))
            }
        }
    }

    private func parse(_ bytes: UnsafeRawBufferPointer) {
        var input = bytes
        do {
            while let event = try self.reader.next(&input) {
                try self.received(event)
                if self.phase == .closed { return }
            }
        } catch let error as HTTP2ConnectionError {
            self.flushGathered()
            self.close(.protocolBroken(self.peer, "\(error)"), code: error.code)
        } catch {
            self.close(.protocolBroken(self.peer, "\(error)"), code: .internalError)
        }
        if self.control.count > Self.controlBytesMax {
            self.close(.protocolBroken(self.peer, "the peer does not read our answers"), code: .enhanceYourCalm)
        }
    }

    private func received(_ event: HTTP2Event) throws {
        switch event {
        case .data(let id, let bytes, let flowControlled, let endStream):
            try self.receivedData(id, bytes, flowControlled, endStream)
        case .headers(let id, let block, let endStream):
            self.flushGathered()
            try self.receivedHeaders(id, block, endStream)
        case .reset(let id, let code):
            self.flushGathered()
            guard let stream = self.streams[id] else { return try self.flood.record(.useless, at: self.loop.now) }
            if !stream.isRelaying { try self.flood.record(.unansweredReset, at: self.loop.now) }
            stream.peerReset(code)
        case .settings(let settings):
            try self.flood.record(.settings, at: self.loop.now)
            try self.apply(settings)
        case .settingsAck, .priorityIgnored, .unknownIgnored:
            try self.flood.record(.useless, at: self.loop.now)
        case .ping(let opaque, let ack):
            guard !ack else {
                if opaque == Self.announcementPing { self.refuseNewStreams() }
                return
            }
            try self.flood.record(.ping, at: self.loop.now)
            HTTP2FrameWriter.appendPing(opaque: opaque, ack: true, to: &self.control)
            self.wantsTurn()
        case .goAway(let lastStream, let code, _):
            self.flushGathered()
            self.receivedGoAway(lastStream, code)
        case .windowUpdate(let id, let increment):
            try self.receivedCredit(id, increment)
        case .streamError(let error):
            self.flushGathered()
            try self.broke(error)
        }
    }

    // MARK: DATA

    @inline(__always)
    func receivedData(
        _ id: HTTP2StreamID, _ bytes: UnsafeRawBufferPointer, _ flowControlled: Int, _ endStream: Bool
    ) throws(HTTP2ConnectionError) {
        do { try self.receiveWindow.received(flowControlled) } catch { throw .windowExceeded }
        if flowControlled == 0, !endStream { try self.flood.record(.emptyData, at: self.loop.now) }
        let stream: TunnelStream
        if let gathered, gathered.id == id {
            stream = gathered
        } else if let found = self.streams[id] {
            stream = found
        } else {
            // The stream is gone on our side; its bytes still count for the connection.
            guard self.isServer ? id <= self.lastPeerStream : self.wasOpened(id) else {
                throw .wrongStream(.data, id)
            }
            return self.returnCredit(flowControlled)
        }
        do { try stream.receiveWindow.received(flowControlled) } catch {
            self.returnCredit(flowControlled)
            return try self.broke(HTTP2StreamError(id, .windowExceeded))
        }
        guard !stream.ends.peerHasEnded, self.isServer || stream.isRelaying else {
            return try self.broke(HTTP2StreamError(id, .streamClosed))
        }
        if flowControlled > bytes.count { stream.release(flowControlled - bytes.count) }
        if !bytes.isEmpty { self.gather(stream, bytes) }
        if endStream {
            self.flushGathered()
            if !stream.isClosed { stream.peerEnded() }
        }
    }

    func wasOpened(_ id: HTTP2StreamID) -> Bool {
        // Ours are handed out in order: everything at or below the highest was open once.
        id <= self.highestOwnStream
    }

    /// Puts a payload slice into the vectors of its stream; another stream's are delivered first.
    @inline(__always)
    private func gather(_ stream: TunnelStream, _ bytes: UnsafeRawBufferPointer) {
        if self.gathered !== stream || self.gatheredCount == ScratchBuffers.vectorsMax {
            self.flushGathered()
            self.gathered = stream
        }
        // SAFETY: writev does not write through the pointer; below `vectorsMax`.
        self.loop.scratch.vectors[self.gatheredCount] = iovec(
            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        self.gatheredCount += 1
        self.gatheredBytes += bytes.count
    }

    func flushGathered() {
        guard let stream = self.gathered else { return }
        let (count, bytes) = (self.gatheredCount, self.gatheredBytes)
        self.gathered = nil
        self.gatheredCount = 0
        self.gatheredBytes = 0
        stream.deliver(self.loop.scratch.vectors, count, bytes)
    }

    /// `bytes` of the connection's window are free again.
    func returnCredit(_ bytes: Int) {
        guard bytes > 0, self.phase == .open, let increment = self.receiveWindow.released(bytes) else { return }
        HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: increment, to: &self.control)
        self.wantsTurn()
    }
}
