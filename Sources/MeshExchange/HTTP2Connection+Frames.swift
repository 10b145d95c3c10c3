internal import MeshHTTP

// What the peer says, frame by frame (RFC 9113, 5 and 6). What can be judged without the streams, the reader has judged.

extension HTTP2Connection {
    func received(_ event: HTTP2Event) throws(HTTP2ConnectionError) {
        switch event {
        case .data(let id, let bytes, let flowControlled, let endStream):
            try self.receivedData(id, bytes, flowControlled, endStream)
        case .headers(let id, let block, let endStream): try self.receivedHeaders(id, block, endStream)
        case .reset(let id, let code): try self.receivedReset(id, code)
        case .settings(let settings):
            try self.record(.settings)
            try self.apply(settings)
        case .settingsAck, .priorityIgnored, .unknownIgnored: try self.record(.useless)
        case .ping(let opaque, let ack):
            try self.record(ack ? .useless : .ping)
            if ack { return self.receivedPingAck(opaque) }
            self.control { HTTP2FrameWriter.appendPing(opaque: opaque, ack: true, to: &$0) }
        case .goAway(let last, let code, _):
            try self.record(.useless)
            self.receivedGoAway(last, code)
        case .windowUpdate(let id, let increment): try self.credited(id, increment)
        case .streamError(let error): try self.broke(error)
        }
    }

    func record(_ kind: HTTP2FloodGuard.Kind) throws(HTTP2ConnectionError) {
        try self.flood.record(kind, at: self.server.loop.now)
    }

    // MARK: Messages

    private func receivedHeaders(
        _ id: HTTP2StreamID, _ block: [UInt8], _ endStream: Bool
    ) throws(HTTP2ConnectionError) {
        let fields: HTTP2HeaderList
        do throws(HPACKError) { fields = try self.decoder.decode(block) } catch { throw .compression(error) }
        guard let stream = self.streams[id] else {
            if id > self.lastStream { return try self.opened(id, fields, endStream: endStream) }
            switch self.closedStreams.ending(of: id) {
            // Our reset was under way when the peer sent this.
            case .resetByUs: return try self.record(.useless)
            case .resetByPeer, .forgotten: return try self.broke(HTTP2StreamError(id, .streamClosed))
            case .finished: throw .closedStream(.headers, id)
            case .skipped: throw .wrongStream(.headers, id)
            }
        }
        if stream.receivedEnd { return try self.broke(HTTP2StreamError(id, .streamClosed)) }
        do throws(HTTP2MalformedMessage) {
            try stream.receivedHeaders(fields, endStream: endStream)
        } catch {
            try self.broke(HTTP2StreamError(id, .malformed(error)))
        }
    }

    private func receivedData(
        _ id: HTTP2StreamID, _ bytes: UnsafeRawBufferPointer, _ flowControlled: Int, _ endStream: Bool
    ) throws(HTTP2ConnectionError) {
        do { try self.receiveWindow.received(flowControlled) } catch { throw .windowExceeded }
        if flowControlled == 0, !endStream { try self.record(.emptyData) }
        guard let stream = self.streams[id] else {
            guard id <= self.lastStream else { throw .wrongStream(.data, id) }
            self.returnCredit(flowControlled)
            switch self.closedStreams.ending(of: id) {
            case .resetByUs:
                guard self.closedStreams.allowsData(id, flowControlled) else { throw .windowExceeded }
                return
            case .resetByPeer, .forgotten: return try self.broke(HTTP2StreamError(id, .streamClosed))
            case .finished: throw .closedStream(.data, id)
            case .skipped: throw .wrongStream(.data, id)
            }
        }
        do { try stream.receiveWindow.received(flowControlled) } catch {
            self.returnCredit(flowControlled)
            return try self.broke(HTTP2StreamError(id, .windowExceeded))
        }
        if stream.receivedEnd { return try self.broke(HTTP2StreamError(id, .streamClosed)) }
        if flowControlled > bytes.count { stream.release(flowControlled - bytes.count) }
        do throws(HTTP2MalformedMessage) {
            try stream.receivedData(bytes, endStream: endStream)
        } catch {
            try self.broke(HTTP2StreamError(id, .malformed(error)))
        }
    }

    private func receivedReset(_ id: HTTP2StreamID, _ code: HTTP2ErrorCode) throws(HTTP2ConnectionError) {
        guard let stream = self.streams[id] else {
            // RFC 9113, 6.4: for a stream that never was it is a connection error.
            guard id <= self.lastStream else { throw .wrongStream(.resetStream, id) }
            return try self.record(.useless)
        }
        if !stream.isAnswered { try self.record(.unansweredReset) }
        self.closedStreams.resetByPeer(id)
        self.remove(stream)
        stream.peerReset(code)
    }

    // MARK: Windows and settings

    private func apply(_ settings: [HTTP2Setting]) throws(HTTP2ConnectionError) {
        let change = try self.peerSettings.apply(settings, from: self.role == .server ? .client : .server)
        if change.initialWindowDelta != 0 {
            for stream in self.streams.values {
                do { try stream.sendWindow.adjust(by: change.initialWindowDelta) } catch { throw .windowOverflow }
                self.mayPump(stream)
            }
        }
        if let table = change.headerTableBytes {
            self.encoder.peerTableBytesMaxChanged(to: table.smallest)
            self.encoder.peerTableBytesMaxChanged(to: table.last)
        }
        self.control { HTTP2FrameWriter.appendSettingsAck(to: &$0) }
        self.hasPeerSettings = true
        self.settingsChanged()
    }

    private func credited(_ id: HTTP2StreamID, _ increment: Int) throws(HTTP2ConnectionError) {
        guard !id.isConnection else {
            do { try self.sendWindow.credit(increment) } catch { throw .windowOverflow }
            return
        }
        guard let stream = self.streams[id] else {
            guard id <= self.lastStream else { throw .wrongStream(.windowUpdate, id) }
            return try self.record(.useless)
        }
        do { try stream.sendWindow.credit(increment) } catch {
            return try self.broke(HTTP2StreamError(id, .windowOverflow))
        }
        self.mayPump(stream)
    }

    // MARK: Wrong

    /// The peer broke a rule on one stream.
    final func broke(_ error: HTTP2StreamError) throws(HTTP2ConnectionError) {
        // RST_STREAM must not answer for a stream that never was: nobody would know what it is about.
        guard error.stream <= self.lastStream else {
            if case .wrongPriorityLength(let bytes) = error.reason { throw .wrongLength(.priority, bytes: bytes) }
            throw .wrongStream(.windowUpdate, error.stream)
        }
        try self.record(.provokedReset)
        guard let stream = self.streams[error.stream] else {
            if case .zeroWindowIncrement = error.reason { return }
            return self.resetAbsent(error.stream, error.code)
        }
        stream.reset(error.code)
        stream.broken("\(error)")
    }

    final func refused(_ id: HTTP2StreamID) throws(HTTP2ConnectionError) {
        self.resetAbsent(id, .refusedStream)
        try self.record(.refusedStream)
    }

    /// RST_STREAM for a stream that is not, or not any more.
    final func resetAbsent(_ id: HTTP2StreamID, _ code: HTTP2ErrorCode) {
        if self.closedStreams.ending(of: id) != .resetByUs {
            self.closedStreams.resetByUs(id, dataLeft: Self.streamWindowBytes)
        }
        self.control { HTTP2FrameWriter.appendReset(stream: id, code: code, to: &$0) }
    }
}
