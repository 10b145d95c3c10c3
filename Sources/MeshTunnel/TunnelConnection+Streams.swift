internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// Opening, answering and ending streams.

extension TunnelConnection {
    /// Sends CONNECT for whoever wants a stream, or keeps it until the tunnel is open. The pool has counted it.
    func open(_ connection: any StreamRequester) {
        guard self.phase == .open else { return self.waiting.append(connection) }
        guard let id = self.streamIDs.next() else {
            // Identifiers are used up after 2^30 streams: the next connection finds a new tunnel.
            self.goAway()
            return connection.tunnelFailed(.streamRefused(self.peer, code: "no stream identifiers left"), isStale: true)
        }
        let stream = TunnelStream(tunnel: self, id: id)
        self.streams[id] = stream
        self.highestOwnStream = id
        self.worker.shared.counters.streams.add(1, ordering: .relaxed)
        var block: [UInt8] = []
        self.encoder.begin(&block)
        HTTP2ConnectRequest.append(authority: connection.authority, &self.encoder, to: &block)
        self.append(connection.headers, to: &block)
        self.sendHeaders(id, block, endStream: false)
        connection.attached(to: stream)
    }

    /// A connection gave up before the tunnel was open.
    func abandon(_ connection: any StreamRequester) {
        self.waiting.removeAll { $0 === connection }
        self.streamEnded()
    }

    /// Answers CONNECT. With `endStream` the stream is over and forgotten.
    func answer(
        _ id: HTTP2StreamID, status: Int, headers: [(name: String, value: String)] = [], endStream: Bool
    ) {
        var block: [UInt8] = []
        self.encoder.begin(&block)
        HTTP2ResponseHead.appendStatus(status, &self.encoder, to: &block)
        self.append(headers, to: &block)
        self.sendHeaders(id, block, endStream: endStream)
    }

    private func append(_ headers: [(name: String, value: String)], to block: inout [UInt8]) {
        for (name, value) in headers {
            var (name, value) = (name, value)
            name.withUTF8 { name in
                value.withUTF8 { value in
                    self.encoder.append(
                        name: UnsafeRawBufferPointer(name), value: UnsafeRawBufferPointer(value), .none, to: &block)
                }
            }
        }
    }

    private func sendHeaders(_ id: HTTP2StreamID, _ block: [UInt8], endStream: Bool) {
        HTTP2FrameWriter.appendHeaders(
            stream: id, block: block, endStream: endStream,
            frameBytesMax: min(self.peerSettings.frameBytesMax, TLSRecord.textBytesMax), to: &self.control)
        self.wantsTurn()
    }

    func sendReset(_ id: HTTP2StreamID, _ code: HTTP2ErrorCode) {
        guard self.phase == .open else { return }
        HTTP2FrameWriter.appendReset(stream: id, code: code, to: &self.control)
        self.wantsTurn()
    }

    /// The stream is over: its unread bytes go back to the connection's window.
    func forget(_ stream: TunnelStream) {
        guard self.streams.removeValue(forKey: stream.id) != nil else { return }
        if self.gathered === stream {
            // Its bytes were counted as held; nobody wants them any more.
            self.gathered = nil
            self.gatheredCount = 0
            self.gatheredBytes = 0
        }
        self.returnCredit(stream.receiveWindow.held)
        self.streamEnded()
    }

    private func streamEnded() {
        self.idleSince = self.loop.now
        if let poolID { self.worker.pool.release(poolID) }
        // One that is no pool's was made for this stream.
        if self.isPrivate { self.goAway() }
        if self.isDraining, self.streams.isEmpty { self.wantsTurn() }
    }
}
