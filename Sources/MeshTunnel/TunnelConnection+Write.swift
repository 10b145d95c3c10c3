internal import Glibc
internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// Writing: control frames and whatever applications have, framed and sealed in `scratch.outgoing`, once per turn.

extension TunnelConnection {
    /// Payload of a DATA frame: with its header it fills one TLS record, and every peer must accept it.
    static let payloadBytesMax = TLSRecord.textBytesMax - HTTP2FrameWriter.Bytes.dataHeader
    /// Bytes taken from one application before the next has its chance.
    static let quotaBytes = 256 << 10
    /// Batches sealed in one turn before other connections have theirs.
    static let batchesPerTurnMax = 2

    /// The application of `stream` has something to read and the stream may send.
    func markReady(_ stream: TunnelStream) {
        guard self.phase == .open else { return }
        guard stream.isRelaying, !stream.isQueued, !stream.ends.appHasEnded, !stream.isClosed else { return }
        stream.isQueued = true
        self.ready.append(stream)
        self.wantsTurn()
    }

    func pump() {
        guard self.flushUnsent(), self.phase == .open, let tls else { return }
        var batches = 0
        while true {
            var batch = RecordBatch(self.loop.scratch.outgoing, tls)
            self.takeControl(&batch)
            self.pullApplications(&batch)
            guard !batch.isEmpty || batch.hasFailed else { return }
            batch.seal()
            guard !batch.hasFailed else { return self.close(.tlsFailed(self.peer, tls.errorText)) }
            self.sendSealed(self.loop.scratch.outgoing.baseAddress!, batch.start)
            if self.phase == .closed || !self.unsent.isEmpty { return }
            let canSendMore =
                !self.control.isEmpty || (self.readyHead < self.ready.count && self.sendWindow.sendable > 0)
            guard canSendMore else { return }
            batches += 1
            if batches == Self.batchesPerTurnMax { return self.wantsTurn() }
        }
    }

    /// Control frames go first. `controlBytesMax` is half of the buffer; a little more arrives between the checks.
    func takeControl(_ batch: inout RecordBatch) {
        guard !self.control.isEmpty else { return }
        let taken = self.control.withUnsafeBytes { batch.append($0) }
        if taken == self.control.count {
            self.control.removeAll(keepingCapacity: self.control.capacity <= 512)
        } else {
            self.control.removeFirst(taken)
        }
    }

    /// Takes from ready streams, one after the other, while there is room for a full frame.
    private func pullApplications(_ batch: inout RecordBatch) {
        // A stream that goes back to the queue gets its next turn in the next batch.
        let last = self.ready.count
        while self.readyHead < last, batch.hasRoom {
            let stream = self.ready[self.readyHead]
            if self.sendWindow.sendable == 0, !stream.isClosed, !stream.isAtEnd { break }
            self.readyHead += 1
            stream.isQueued = false
            if stream.isClosed { continue }
            self.pull(stream, &batch)
        }
        if self.readyHead == self.ready.count {
            self.ready.removeAll(keepingCapacity: self.ready.capacity <= 256)
            self.readyHead = 0
        } else if self.readyHead >= 1024 {
            self.ready.removeFirst(self.readyHead)
            self.readyHead = 0
        }
    }

    /// Reads the application's bytes straight to where their frames need them, and writes the frame headers between.
    private func pull(_ stream: TunnelStream, _ batch: inout RecordBatch) {
        guard let app = stream.app, app.isReadable else { return }
        let window = min(stream.sendWindow.sendable, self.sendWindow.sendable, Self.quotaBytes)
        if window == 0 {
            // Shut. Only the end of the stream needs no window; bytes wait for WINDOW_UPDATE.
            if stream.isAtEnd { self.appEnded(stream, &batch) }
            return
        }
        let vectors = self.loop.scratch.readVectors
        // Sixteen vectors for a message that fits one frame cost more than the message.
        let countMax = stream.sendsBulk ? ScratchBuffers.readVectorsMax : 1
        let (count, wanted) = batch.payloadVectors(vectors, countMax: countMax, window: window)
        switch app.read(vectors, count) {
        case .moved(let moved):
            stream.sendWindow.consume(moved)
            self.sendWindow.consume(moved)
            stream.countFromApp(moved)
            batch.framePayload(stream.id, moved)
            let hadRoomForMore = count == 1 && window > wanted
            stream.sendsBulk = moved >= min(wanted, Self.payloadBytesMax)
            if moved == wanted, hadRoomForMore, batch.hasRoom {
                return self.pull(stream, &batch)
            }
            // A short read emptied the socket, unless FIN is behind the bytes: see `readBatch`.
            if moved == wanted || app.sawEnd { self.markReady(stream) } else { app.isReadable = false }
        case .wouldBlock: app.isReadable = false
        case .ended: self.appEnded(stream, &batch)
        case .failed(let code): stream.appFailed(app, code: code)
        }
    }

    private func appEnded(_ stream: TunnelStream, _ batch: inout RecordBatch) {
        batch.appendEnd(stream.id)
        stream.appEnded()
    }

    // MARK: Sealed bytes

    /// Sends, and keeps what the socket refuses.
    func sendSealed(_ bytes: UnsafeMutableRawPointer, _ count: Int) {
        var sent = 0
        if self.unsent.isEmpty, self.isWritable {
            loop: while sent < count {
                switch Sockets.write(self.descriptor, bytes + sent, count - sent) {
                case .moved(let moved): sent += moved
                case .wouldBlock:
                    self.isWritable = false
                    break loop
                case .ended, .failed: return self.close(.peerClosed(self.peer))
                }
            }
        }
        self.unsent.append(bytes + sent, count - sent)
    }

    /// True when nothing is left that must go first.
    private func flushUnsent() -> Bool {
        guard !self.unsent.isEmpty else { return true }
        guard self.isWritable else { return false }
        switch self.unsent.write(to: self.descriptor).stop {
        case .moved: return true
        case .wouldBlock:
            self.isWritable = false
            return false
        case .ended, .failed:
            self.close(.peerClosed(self.peer))
            return false
        }
    }
}
