internal import MeshHTTP
internal import MeshModel

// What the peer says beside DATA: settings, credit, GOAWAY, header blocks.

extension TunnelConnection {
    func apply(_ settings: [HTTP2Setting]) throws(HTTP2ConnectionError) {
        let change = try self.peerSettings.apply(settings, from: self.isServer ? .client : .server)
        if change.initialWindowDelta != 0 {
            for stream in self.streams.values {
                do { try stream.sendWindow.adjust(by: change.initialWindowDelta) } catch { throw .windowOverflow }
                stream.windowOpened()
            }
        }
        if let table = change.headerTableBytes {
            self.encoder.peerTableBytesMaxChanged(to: table.smallest)
            self.encoder.peerTableBytesMaxChanged(to: table.last)
        }
        if let poolID, let limit = self.peerSettings.maxConcurrentStreams { self.worker.pool.limit(poolID, to: limit) }
        HTTP2FrameWriter.appendSettingsAck(to: &self.control)
        self.proven()
        self.wantsTurn()
    }

    func receivedCredit(_ id: HTTP2StreamID, _ increment: Int) throws(HTTP2ConnectionError) {
        guard !id.isConnection else {
            do { try self.sendWindow.credit(increment) } catch { throw .windowOverflow }
            if self.readyHead < self.ready.count { self.wantsTurn() }
            return
        }
        guard let stream = self.streams[id] else { return try self.flood.record(.useless, at: self.loop.now) }
        do { try stream.sendWindow.credit(increment) } catch {
            return try self.broke(HTTP2StreamError(id, .windowOverflow))
        }
        stream.windowOpened()
    }

    func receivedGoAway(_ lastStream: HTTP2StreamID, _ code: HTTP2ErrorCode) {
        guard !self.isServer else { return }
        self.goAway()
        // The peer never looked at these: they may go elsewhere.
        for stream in Array(self.streams.values) where stream.id > lastStream {
            stream.neverProcessed("GOAWAY \(code)")
        }
    }

    /// The peer broke a rule on one stream.
    func broke(_ error: HTTP2StreamError) throws(HTTP2ConnectionError) {
        try self.flood.record(.provokedReset, at: self.loop.now)
        if let stream = self.streams[error.stream] {
            stream.fail(.protocolBroken(self.peer, "\(error)"), code: error.code)
        } else {
            self.sendReset(error.stream, error.code)
        }
    }

    func receivedHeaders(
        _ id: HTTP2StreamID, _ block: [UInt8], _ endStream: Bool
    ) throws(HTTP2ConnectionError) {
        let fields: HTTP2HeaderList
        do { fields = try self.decoder.decode(block) } catch { throw .compression(error) }
        if let stream = self.streams[id] {
            if self.isServer || stream.isRelaying {
                // Trailers: a tunnel has none, their end counts.
                guard endStream else { return try self.broke(HTTP2StreamError(id, .malformed(.truncated))) }
                stream.peerEnded()
            } else {
                do { try stream.answered(HTTP2ResponseHead(validating: fields), endStream: endStream) } catch {
                    try self.broke(HTTP2StreamError(id, .malformed(error)))
                }
            }
            return
        }
        guard self.isServer, id > self.lastPeerStream else {
            guard self.isServer || self.wasOpened(id) else { throw .wrongStream(.headers, id) }
            return try self.flood.record(.useless, at: self.loop.now)
        }
        self.lastPeerStream = id
        let isFull = self.streams.count >= self.worker.configuration.inboundStreamsMax
        guard !isFull, self.draining == .no || self.draining == .announced else {
            // Nothing was done for it, so the peer may send it elsewhere (RFC 9113, 8.7).
            self.sendReset(id, .refusedStream)
            return try self.flood.record(.refusedStream, at: self.loop.now)
        }
        try self.accept(id, fields, endStream)
    }
}
