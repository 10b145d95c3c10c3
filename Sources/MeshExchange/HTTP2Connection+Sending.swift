internal import MeshHTTP

// What is sent: control frames and heads at once, bodies as the windows and the channel allow.

extension HTTP2Connection {
    func control(_ write: (inout [UInt8]) -> Void) {
        guard !self.isOver else { return }
        self.server.withFrameBytes { bytes in
            write(&bytes)
            self.channel.send(bytes)
        }
    }

    /// A header block, as HEADERS and whatever CONTINUATIONs the peer's MAX_FRAME_SIZE asks for.
    func sendHeaders(_ id: HTTP2StreamID, endStream: Bool, _ fill: (inout HPACKEncoder, inout [UInt8]) -> Void) {
        guard !self.isOver else { return }
        self.server.withFrameBytes { bytes in
            HTTP2FrameWriter.beginHeaders(to: &bytes)
            self.encoder.begin(&bytes)
            fill(&self.encoder, &bytes)
            HTTP2FrameWriter.endHeaders(
                stream: id, endStream: endStream, frameBytesMax: self.peerSettings.frameBytesMax, &bytes)
            self.channel.send(bytes)
        }
    }

    /// DATA, its header and its payload behind one another.
    func sendData(_ stream: HTTP2Stream, _ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        withUnsafeTemporaryAllocation(byteCount: HTTP2FrameWriter.Bytes.dataHeader, alignment: 8) { header in
            _ = HTTP2FrameWriter.writeDataHeader(
                stream: stream.id, length: bytes.count, endStream: endStream, at: header.baseAddress!)
            self.channel.send(UnsafeRawBufferPointer(header))
        }
        if !bytes.isEmpty { self.channel.send(bytes) }
        stream.sendWindow.consume(bytes.count)
        self.sendWindow.consume(bytes.count)
    }

    /// What may go out in one frame of that stream now.
    func allowance(_ stream: HTTP2Stream) -> Int {
        min(
            self.sendWindow.sendable, stream.sendWindow.sendable, self.peerSettings.frameBytesMax,
            Self.sentFrameBytesMax)
    }

    /// Nobody waits for the channel or the connection's window: a body may go out without a queue.
    var isFreeToSend: Bool { !self.isOver && self.readyAt == self.ready.count && !self.channel.isFull }

    /// `stream` has something to send and may.
    func mayPump(_ stream: HTTP2Stream) {
        guard stream.hasBodyToSend, !stream.isQueued, stream.isOpen else { return }
        guard stream.sendWindow.sendable > 0 || stream.queuedBytes == 0 else { return }
        stream.isQueued = true
        self.ready.append(stream)
    }

    /// Round and round, a frame each, while the channel takes it.
    func sendBodies() {
        guard !self.isSendingBodies, self.readyAt < self.ready.count else { return }
        self.isSendingBodies = true
        defer { self.isSendingBodies = false }
        /// In a row, passed over because the connection's window is shut: who only has an end to say need not wait.
        var passed = 0
        while self.readyAt < self.ready.count, passed < self.ready.count - self.readyAt, !self.isOver,
            !self.channel.isFull
        {
            let stream = self.ready[self.readyAt]
            self.readyAt += 1
            let allowed = self.allowance(stream)
            if allowed == 0, stream.queuedBytes > 0 {
                if stream.sendWindow.sendable > 0 {
                    passed += 1
                    self.ready.append(stream)
                } else {
                    stream.isQueued = false
                }
                continue
            }
            passed = 0
            stream.isQueued = false
            stream.sendFrame(upTo: allowed)
            self.mayPump(stream)
        }
        self.ready.removeFirst(min(self.readyAt, self.ready.count))
        self.readyAt = 0
    }

    /// The reader of a body is done with so many octets of the connection's window.
    func returnCredit(_ bytes: Int) {
        guard bytes > 0, !self.isOver, let increment = self.receiveWindow.released(bytes) else { return }
        self.control { HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: increment, to: &$0) }
    }
}
