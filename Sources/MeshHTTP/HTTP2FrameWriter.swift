/// Writes frames. Each kind comes twice: at a raw pointer, for callers that own their output buffer, and appended to
/// a byte array. Frames of fixed size name it in ``Bytes``.
///
/// SAFETY: the `at:` functions write exactly as many octets as they return; the caller vouches for the room.
package enum HTTP2FrameWriter {
    /// Sizes of whole frames, the frame header included.
    package enum Bytes {
        package static let ping = 17
        package static let windowUpdate = 13
        package static let resetStream = 13
        package static let settingsAck = 9
        package static let goAway = 17
        package static let dataHeader = 9

        package static func settings(_ count: Int) -> Int { 9 + 6 * count }

        /// A HEADERS frame and its CONTINUATIONs for a block of so many octets.
        package static func headers(block: Int, frameBytesMax: Int) -> Int {
            block + 9 * max(1, (block + frameBytesMax - 1) / frameBytesMax)
        }
    }

    // MARK: At a pointer

    /// Only the nine octets in front; `length` octets of payload must follow, within the peer's MAX_FRAME_SIZE and
    /// both windows.
    @inline(__always)
    package static func writeDataHeader(
        stream: HTTP2StreamID, length: Int, endStream: Bool, at target: UnsafeMutableRawPointer
    ) -> Int {
        HTTP2FrameHeader(length: length, type: .data, flags: endStream ? .endStream : [], stream: stream)
            .write(to: target)
        return Bytes.dataHeader
    }

    package static func writeSettings(_ settings: [HTTP2Setting], at target: UnsafeMutableRawPointer) -> Int {
        HTTP2FrameHeader(length: 6 * settings.count, type: .settings, stream: .connection).write(to: target)
        var at = HTTP2FrameHeader.byteCount
        for setting in settings {
            target.storeBytes(of: setting.id.rawValue.bigEndian, toByteOffset: at, as: UInt16.self)
            target.storeBytes(of: setting.value.bigEndian, toByteOffset: at + 2, as: UInt32.self)
            at += 6
        }
        return at
    }

    package static func writeSettingsAck(at target: UnsafeMutableRawPointer) -> Int {
        HTTP2FrameHeader(length: 0, type: .settings, flags: .ack, stream: .connection).write(to: target)
        return Bytes.settingsAck
    }

    package static func writePing(opaque: UInt64, ack: Bool, at target: UnsafeMutableRawPointer) -> Int {
        HTTP2FrameHeader(length: 8, type: .ping, flags: ack ? .ack : [], stream: .connection).write(to: target)
        target.storeBytes(of: opaque.bigEndian, toByteOffset: 9, as: UInt64.self)
        return Bytes.ping
    }

    /// - Parameter increment: 1 to 2^31-1.
    package static func writeWindowUpdate(
        stream: HTTP2StreamID, increment: Int, at target: UnsafeMutableRawPointer
    ) -> Int {
        precondition(increment > 0 && increment <= HTTP2Settings.windowBytesMax)
        HTTP2FrameHeader(length: 4, type: .windowUpdate, stream: stream).write(to: target)
        target.storeBytes(of: UInt32(increment).bigEndian, toByteOffset: 9, as: UInt32.self)
        return Bytes.windowUpdate
    }

    package static func writeReset(
        stream: HTTP2StreamID, code: HTTP2ErrorCode, at target: UnsafeMutableRawPointer
    ) -> Int {
        HTTP2FrameHeader(length: 4, type: .resetStream, stream: stream).write(to: target)
        target.storeBytes(of: code.rawValue.bigEndian, toByteOffset: 9, as: UInt32.self)
        return Bytes.resetStream
    }

    /// GOAWAY without debug text.
    package static func writeGoAway(
        lastStream: HTTP2StreamID, code: HTTP2ErrorCode, at target: UnsafeMutableRawPointer
    ) -> Int {
        self.writeGoAwayHeader(lastStream, code, debugBytes: 0, at: target)
    }

    private static func writeGoAwayHeader(
        _ lastStream: HTTP2StreamID, _ code: HTTP2ErrorCode, debugBytes: Int, at target: UnsafeMutableRawPointer
    ) -> Int {
        HTTP2FrameHeader(length: 8 + debugBytes, type: .goAway, stream: .connection).write(to: target)
        target.storeBytes(of: lastStream.rawValue.bigEndian, toByteOffset: 9, as: UInt32.self)
        target.storeBytes(of: code.rawValue.bigEndian, toByteOffset: 13, as: UInt32.self)
        return Bytes.goAway
    }

    /// A header block as HEADERS and as many CONTINUATION frames as the peer's MAX_FRAME_SIZE asks for. Nothing may
    /// be written to the connection between them. Room: ``Bytes/headers(block:frameBytesMax:)``.
    package static func writeHeaders(
        stream: HTTP2StreamID, block: UnsafeRawBufferPointer, endStream: Bool, frameBytesMax: Int,
        at target: UnsafeMutableRawPointer
    ) -> Int {
        precondition(frameBytesMax > 0)
        var written = 0
        var from = 0
        repeat {
            let length = min(frameBytesMax, block.count - from)
            var flags: HTTP2FrameFlags = from + length == block.count ? .endHeaders : []
            if endStream, from == 0 { flags.insert(.endStream) }
            HTTP2FrameHeader(length: length, type: from == 0 ? .headers : .continuation, flags: flags, stream: stream)
                .write(to: target + written)
            written += HTTP2FrameHeader.byteCount
            if length > 0 { (target + written).copyMemory(from: block.baseAddress! + from, byteCount: length) }
            written += length
            from += length
        } while from < block.count
        return written
    }

    // MARK: Appended

    /// What a client sends before its SETTINGS.
    package static func appendClientPreface(to bytes: inout [UInt8]) {
        let preface = HTTP2FrameReader.clientPreface
        bytes.append(contentsOf: UnsafeBufferPointer(start: preface.utf8Start, count: preface.utf8CodeUnitCount))
    }

    package static func appendDataHeader(
        stream: HTTP2StreamID, length: Int, endStream: Bool, to bytes: inout [UInt8]
    ) {
        self.append(Bytes.dataHeader, to: &bytes) {
            self.writeDataHeader(stream: stream, length: length, endStream: endStream, at: $0)
        }
    }

    package static func appendSettings(_ settings: [HTTP2Setting], to bytes: inout [UInt8]) {
        self.append(Bytes.settings(settings.count), to: &bytes) { self.writeSettings(settings, at: $0) }
    }

    package static func appendSettingsAck(to bytes: inout [UInt8]) {
        self.append(Bytes.settingsAck, to: &bytes) { self.writeSettingsAck(at: $0) }
    }

    package static func appendPing(opaque: UInt64, ack: Bool, to bytes: inout [UInt8]) {
        self.append(Bytes.ping, to: &bytes) { self.writePing(opaque: opaque, ack: ack, at: $0) }
    }

    package static func appendWindowUpdate(stream: HTTP2StreamID, increment: Int, to bytes: inout [UInt8]) {
        self.append(Bytes.windowUpdate, to: &bytes) {
            self.writeWindowUpdate(stream: stream, increment: increment, at: $0)
        }
    }

    package static func appendReset(stream: HTTP2StreamID, code: HTTP2ErrorCode, to bytes: inout [UInt8]) {
        self.append(Bytes.resetStream, to: &bytes) { self.writeReset(stream: stream, code: code, at: $0) }
    }

    /// - Parameter debug: text for the peer's operator, cut to ``HTTP2FrameReader/goAwayDebugBytesMax`` octets. It
    ///   must not tell secrets.
    package static func appendGoAway(
        lastStream: HTTP2StreamID, code: HTTP2ErrorCode, debug: String = "", to bytes: inout [UInt8]
    ) {
        let text = debug.utf8.prefix(HTTP2FrameReader.goAwayDebugBytesMax)
        self.append(Bytes.goAway, to: &bytes) {
            self.writeGoAwayHeader(lastStream, code, debugBytes: text.count, at: $0)
        }
        bytes.append(contentsOf: text)
    }

    package static func appendHeaders(
        stream: HTTP2StreamID, block: [UInt8], endStream: Bool, frameBytesMax: Int, to bytes: inout [UInt8]
    ) {
        block.withUnsafeBytes { block in
            self.append(Bytes.headers(block: block.count, frameBytesMax: frameBytesMax), to: &bytes) {
                self.writeHeaders(
                    stream: stream, block: block, endStream: endStream, frameBytesMax: frameBytesMax, at: $0)
            }
        }
    }

    /// Begins HEADERS in an empty array: its header block is appended behind this, ``endHeaders`` completes it.
    package static func beginHeaders(to bytes: inout [UInt8]) {
        precondition(bytes.isEmpty)
        for _ in 0..<HTTP2FrameHeader.byteCount { bytes.append(0) }
    }

    /// Makes frames of what ``beginHeaders(to:)`` began; in place when one frame holds the block, as nearly always.
    package static func endHeaders(
        stream: HTTP2StreamID, endStream: Bool, frameBytesMax: Int, _ bytes: inout [UInt8]
    ) {
        let length = bytes.count - HTTP2FrameHeader.byteCount
        guard length > frameBytesMax else {
            let flags: HTTP2FrameFlags = endStream ? [.endHeaders, .endStream] : .endHeaders
            bytes.withUnsafeMutableBytes {
                HTTP2FrameHeader(length: length, type: .headers, flags: flags, stream: stream)
                    .write(to: $0.baseAddress!)
            }
            return
        }
        let block = Array(bytes[HTTP2FrameHeader.byteCount...])
        bytes.removeAll(keepingCapacity: true)
        self.appendHeaders(
            stream: stream, block: block, endStream: endStream, frameBytesMax: frameBytesMax, to: &bytes)
    }

    /// Makes room at the end of `bytes` and lets `write` fill all of it.
    @inline(__always)
    private static func append(
        _ count: Int, to bytes: inout [UInt8], write: (UnsafeMutableRawPointer) -> Int
    ) {
        withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { room in
            let written = write(room.baseAddress!)
            precondition(written == count)
            bytes.append(contentsOf: UnsafeRawBufferPointer(room))
        }
    }
}
