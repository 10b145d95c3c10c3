internal import Glibc
internal import MeshHTTP
internal import MeshLoop
internal import MeshModel

// Writing: control frames and whatever applications have, framed in `scratch.outgoing` and sealed into
// `scratch.sealed`, once per turn.
//
// SAFETY of this file: offsets into `outgoing` stay below its count; both buffers are free again when `pump` returns.

extension TunnelConnection {
    /// Payload of a DATA frame: with its header it fills one TLS record, and every peer must accept it.
    static let payloadBytesMax = ScratchBuffers.recordBytes - HTTP2FrameWriter.Bytes.dataHeader
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
        let outgoing = self.loop.scratch.outgoing
        var batches = 0
        while true {
            var end = 0
            if !self.control.isEmpty {
                // Within bounds: `controlBytesMax` is half of `outgoing`, a little more arrives between the checks.
                end = min(self.control.count, outgoing.count)
                self.control.withUnsafeBytes {
                    outgoing.baseAddress!.copyMemory(from: $0.baseAddress!, byteCount: end)
                }
                if end == self.control.count {
                    self.control.removeAll(keepingCapacity: self.control.capacity <= 512)
                } else {
                    self.control.removeFirst(end)
                }
            }
            self.pullApplications(&end)
            guard end > 0 else { return }
            let sealed = self.loop.scratch.sealed
            guard let count = tls.write(outgoing.baseAddress!, end, into: sealed) else {
                return self.close(.tlsFailed(self.peer, tls.errorText))
            }
            self.sendSealed(sealed.baseAddress!, count)
            if self.phase == .closed || !self.unsent.isEmpty { return }
            let canSendMore =
                !self.control.isEmpty || (self.readyHead < self.ready.count && self.sendWindow.sendable > 0)
            guard canSendMore else { return }
            batches += 1
            if batches == Self.batchesPerTurnMax { return self.wantsTurn() }
        }
    }

    /// Takes from ready streams, one after the other, while there is room for a full frame.
    private func pullApplications(_ end: inout Int) {
        let room = self.loop.scratch.outgoing.count
        // A stream that goes back to the queue gets its next turn in the next batch.
        let last = self.ready.count
        while self.readyHead < last, end + ScratchBuffers.recordBytes <= room {
            let stream = self.ready[self.readyHead]
            if self.sendWindow.sendable == 0, !stream.isClosed, !stream.isAtEnd { break }
            self.readyHead += 1
            stream.isQueued = false
            if stream.isClosed { continue }
            self.pull(stream, &end)
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
    private func pull(_ stream: TunnelStream, _ end: inout Int) {
        guard let app = stream.app, app.isReadable else { return }
        let outgoing = self.loop.scratch.outgoing.baseAddress!
        let room = self.loop.scratch.outgoing.count
        let window = min(stream.sendWindow.sendable, self.sendWindow.sendable, Self.quotaBytes)
        if window == 0 {
            // Shut. Only the end of the stream needs no window; bytes wait for WINDOW_UPDATE.
            if stream.isAtEnd { self.appEnded(stream, &end) }
            return
        }
        let vectors = self.loop.scratch.readVectors
        var count = 0
        var wanted = 0
        var at = end
        // Sixteen vectors for a message that fits one frame cost more than the message.
        let countMax = stream.sendsBulk ? ScratchBuffers.readVectorsMax : 1
        while wanted < window, at + ScratchBuffers.recordBytes <= room, count < countMax {
            let length = min(Self.payloadBytesMax, window - wanted)
            vectors[count] = iovec(iov_base: outgoing + at + HTTP2FrameWriter.Bytes.dataHeader, iov_len: length)
            count += 1
            wanted += length
            at += HTTP2FrameWriter.Bytes.dataHeader + length
        }
        let result =
            count == 1
            ? Sockets.read(app.descriptor, vectors[0].iov_base, vectors[0].iov_len)
            : Sockets.read(app.descriptor, vectors, count)
        switch result {
        case .moved(let moved):
            stream.sendWindow.consume(moved)
            self.sendWindow.consume(moved)
            stream.countFromApp(moved)
            var left = moved
            while left > 0 {
                let length = min(left, Self.payloadBytesMax)
                _ = HTTP2FrameWriter.writeDataHeader(
                    stream: stream.id, length: length, endStream: false, at: outgoing + end)
                end += HTTP2FrameWriter.Bytes.dataHeader + length
                left -= length
            }
            let hadRoomForMore = count == 1 && window > Self.payloadBytesMax
            stream.sendsBulk = moved >= Self.payloadBytesMax
            if moved == wanted, hadRoomForMore, end + ScratchBuffers.recordBytes <= room {
                return self.pull(stream, &end)
            }
            // A short read emptied the socket, unless FIN is behind the bytes: see `readBatch`.
            if moved == wanted || app.sawEnd { self.markReady(stream) } else { app.isReadable = false }
        case .wouldBlock: app.isReadable = false
        case .ended: self.appEnded(stream, &end)
        case .failed(let code): stream.appFailed(app, code: code)
        }
    }

    private func appEnded(_ stream: TunnelStream, _ end: inout Int) {
        end += HTTP2FrameWriter.writeDataHeader(
            stream: stream.id, length: 0, endStream: true, at: self.loop.scratch.outgoing.baseAddress! + end)
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
