// Payloads, whole or in the pieces that the network made of them.

extension HTTP2FrameReader {
    mutating func readPrefix(_ bytes: UnsafeRawBufferPointer) throws(HTTP2ConnectionError) -> HTTP2Event? {
        self.remaining -= bytes.count
        if self.header.flags.contains(.padded) {
            self.padding = Int(bytes[0])
            guard self.padding <= self.remaining else {
                throw .paddingTooLong(self.header.type, self.header.stream)
            }
            self.remaining -= self.padding
        }
        guard self.header.type == .data else { return self.beganFragment() }
        self.uncharged = 1
        if self.remaining > 0 {
            self.state = .data
            return nil
        }
        if self.padding > 0 {
            self.state = .padding
            return nil
        }
        self.state = .frameHeader
        return self.dataPiece(UnsafeRawBufferPointer(start: nil, count: 0), padding: 0, isLast: true)
    }

    @inline(__always)
    mutating func readData(_ input: inout UnsafeRawBufferPointer) -> HTTP2Event {
        let piece = Self.take(self.remaining, &input)
        self.remaining -= piece.count
        if self.remaining == 0 { self.state = self.padding > 0 ? .padding : .frameHeader }
        return self.dataPiece(piece, padding: 0, isLast: self.remaining == 0 && self.padding == 0)
    }

    mutating func dataPiece(_ bytes: UnsafeRawBufferPointer, padding: Int, isLast: Bool) -> HTTP2Event {
        defer { self.uncharged = 0 }
        return .data(
            stream: self.header.stream, bytes: bytes, flowControlled: bytes.count + padding + self.uncharged,
            endStream: isLast && self.header.flags.contains(.endStream))
    }

    mutating func readFragment(_ input: inout UnsafeRawBufferPointer) -> HTTP2Event? {
        let piece = Self.take(self.remaining, &input)
        self.block.append(contentsOf: piece)
        self.remaining -= piece.count
        return self.remaining == 0 ? self.fragmentEnded() : nil
    }

    mutating func readPadding(_ input: inout UnsafeRawBufferPointer) -> HTTP2Event? {
        let piece = Self.take(self.padding, &input)
        self.padding -= piece.count
        guard self.header.type == .data else { return self.padding == 0 ? self.blockEnded() : nil }
        if self.padding == 0 { self.state = .frameHeader }
        return self.dataPiece(
            UnsafeRawBufferPointer(start: nil, count: 0), padding: piece.count, isLast: self.padding == 0)
    }

    mutating func fragmentEnded() -> HTTP2Event? {
        guard self.padding == 0 else {
            self.state = .padding
            return nil
        }
        return self.blockEnded()
    }

    mutating func blockEnded() -> HTTP2Event? {
        self.state = .frameHeader
        guard self.header.flags.contains(.endHeaders) else { return nil }
        let stream = self.openBlock
        self.openBlock = .connection
        var block: [UInt8] = []
        swap(&block, &self.block)
        return .headers(stream: stream, block: block, endStream: self.blockEndsStream)
    }

    mutating func readControl(_ bytes: UnsafeRawBufferPointer) throws(HTTP2ConnectionError) -> HTTP2Event? {
        let stream = self.header.stream
        self.remaining -= bytes.count
        self.skipPayload()
        switch self.header.type {
        case .resetStream:
            return .reset(stream: stream, code: HTTP2ErrorCode(rawValue: Self.word(bytes, 0)))
        case .windowUpdate:
            let increment = Int(Self.word(bytes, 0) & 0x7fff_ffff)
            if increment > 0 { return .windowUpdate(stream: stream, increment: increment) }
            if stream.isConnection { throw .zeroWindowIncrement }
            return .streamError(HTTP2StreamError(stream, .zeroWindowIncrement))
        case .ping:
            let opaque = UInt64(Self.word(bytes, 0)) << 32 | UInt64(Self.word(bytes, 4))
            return .ping(opaque: opaque, ack: self.header.flags.contains(.ack))
        case .goAway:
            return .goAway(
                lastStream: HTTP2StreamID(Self.word(bytes, 0) & 0x7fff_ffff),
                code: HTTP2ErrorCode(rawValue: Self.word(bytes, 4)), debug: Array(bytes.dropFirst(8)))
        default:
            return .settings(
                stride(from: 0, to: bytes.count, by: 6).map { at in
                    let id = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt16.self))
                    return HTTP2Setting(HTTP2Setting.ID(rawValue: id), Self.word(bytes, at + 2))
                })
        }
    }

    @inline(__always)
    static func word(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt32 {
        UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    }
}
