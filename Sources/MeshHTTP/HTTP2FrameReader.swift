/// Takes the octets of a connection as they arrive, cut anywhere, and gives out what they say.
///
/// Performs no I/O and keeps no stream state. DATA is handed out in place, as slices of the caller's buffer; only
/// header blocks and cut control frames are collected, each within a named bound. Checked here: everything in
/// RFC 9113 sections 3.4, 4, 5.1.1 and 6 that can be judged without knowing which streams are open.
///
///     preface ─▶ frameHeader ─▶ data | fragment | control | skip ─▶ padding ─▶ frameHeader
package struct HTTP2FrameReader: ~Copyable {
    package enum Role: Sendable { case client, server }

    package struct Limits: Sendable {
        /// The largest frame accepted: what we advertise as SETTINGS_MAX_FRAME_SIZE, 16 KiB to 1 MiB.
        package var frameBytesMax = HTTP2Settings.frameBytesMin
        /// HEADERS and CONTINUATION payloads of one block together, padding included.
        package var headerBlockBytesMax = 64 * 1024
        /// CONTINUATION frames of one block, empty ones included (the CONTINUATION flood, CVE-2024-27316).
        package var continuationFramesMax = 16

        package init() {}
    }

    /// The largest value that ``Limits/frameBytesMax`` may have.
    package static let frameBytesCeiling = 1 << 20
    /// Settings of one SETTINGS frame; a dozen exist.
    package static let settingsPerFrameMax = 32
    /// Octets of a GOAWAY's debug text that are kept; the rest is skipped.
    package static let goAwayDebugBytesMax = 184
    /// What a client sends first (RFC 9113 section 3.4).
    package static let clientPreface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    private enum State {
        /// So many octets of the client's preface were right.
        case preface(Int)
        case frameHeader
        /// The pad length and priority octets in front of DATA and HEADERS.
        case prefix(Int)
        case data
        case fragment
        case padding
        /// A whole payload that is judged at once.
        case control(Int)
        /// Payload nobody wants: PRIORITY, unknown types, the end of a long GOAWAY.
        case skip
    }

    package let limits: Limits
    private var state: State
    private var seenSettings = false
    /// The frame whose payload is being read.
    private var header = HTTP2FrameHeader(length: 0, type: .data, stream: .connection)
    /// Payload octets of the frame still to come, padding excluded.
    private var remaining = 0
    private var padding = 0
    /// 1 until the pad length octet has been charged to the windows.
    private var uncharged = 0
    private var block: [UInt8] = []
    private var blockBytes = 0
    private var blockEndsStream = false
    private var continuations = 0
    /// The stream whose header block is open; the connection when none is.
    private var openBlock = HTTP2StreamID.connection

    /// Cut frame headers and control payloads are put together here.
    private let scratch: UnsafeMutableRawBufferPointer
    private var scratchCount = 0
    private static let scratchBytes = 6 * settingsPerFrameMax  // = 8 + goAwayDebugBytesMax

    /// - Parameter role: who *we* are; a server first expects the client's preface.
    package init(role: Role, limits: Limits = Limits()) {
        precondition(
            limits.frameBytesMax >= HTTP2Settings.frameBytesMin && limits.frameBytesMax <= Self.frameBytesCeiling,
            "frameBytesMax must be 16 KiB to 1 MiB")
        self.limits = limits
        self.state = role == .server ? .preface(0) : .frameHeader
        self.scratch = .allocate(byteCount: Self.scratchBytes, alignment: 8)
    }

    deinit { self.scratch.deallocate() }

    /// Nothing is half-read: the peer may close the connection here without cutting a frame.
    package var isAtFrameBoundary: Bool {
        if case .frameHeader = self.state { return self.scratchCount == 0 && self.openBlock.isConnection }
        return false
    }

    /// Takes the next event off the front of `input`.
    ///
    /// - Returns: nil when `input` is used up; call again with the octets that follow it.
    /// - Throws: after an error the reader must not be used again.
    package mutating func next(
        _ input: inout UnsafeRawBufferPointer
    ) throws(HTTP2ConnectionError) -> HTTP2Event? {
        while true {
            let event: HTTP2Event?
            switch self.state {
            case .preface(let matched):
                try self.readPreface(&input, matched)
                event = nil
            case .frameHeader:
                guard let bytes = self.gather(HTTP2FrameHeader.byteCount, &input) else { return nil }
                self.header = HTTP2FrameHeader(parsing: bytes.baseAddress!)
                event = try self.began()
            case .prefix(let count):
                guard let bytes = self.gather(count, &input) else { return nil }
                event = try self.readPrefix(bytes)
            case .data:
                guard !input.isEmpty else { return nil }
                event = self.readData(&input)
            case .fragment:
                guard !input.isEmpty else { return nil }
                event = self.readFragment(&input)
            case .padding:
                guard !input.isEmpty else { return nil }
                event = self.readPadding(&input)
            case .control(let count):
                guard let bytes = self.gather(count, &input) else { return nil }
                event = try self.readControl(bytes)
            case .skip:
                guard !input.isEmpty else { return nil }
                self.remaining -= Self.take(self.remaining, &input).count
                if self.remaining == 0 { self.state = .frameHeader }
                event = nil
            }
            if let event { return event }
            // A payload without octets ends where it begins, so no state can go on without input.
            if input.isEmpty { return nil }
        }
    }

    // MARK: Taking octets

    @inline(__always)
    private static func take(_ count: Int, _ input: inout UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let taken = UnsafeRawBufferPointer(rebasing: input.prefix(count))
        input = UnsafeRawBufferPointer(rebasing: input.dropFirst(taken.count))
        return taken
    }

    /// `count` octets in one piece: in place when they all arrived, else from the scratch buffer; nil until they have.
    @inline(__always)
    private mutating func gather(
        _ count: Int, _ input: inout UnsafeRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        if self.scratchCount == 0, input.count >= count { return Self.take(count, &input) }
        precondition(count <= Self.scratchBytes)
        let piece = Self.take(count - self.scratchCount, &input)
        if let from = piece.baseAddress, !piece.isEmpty {
            // SAFETY: scratchCount + piece.count <= count <= scratchBytes.
            (self.scratch.baseAddress! + self.scratchCount).copyMemory(from: from, byteCount: piece.count)
        }
        self.scratchCount += piece.count
        guard self.scratchCount == count else { return nil }
        self.scratchCount = 0
        return UnsafeRawBufferPointer(rebasing: self.scratch[..<count])
    }

    private mutating func readPreface(
        _ input: inout UnsafeRawBufferPointer, _ matched: Int
    ) throws(HTTP2ConnectionError) {
        let preface = UnsafeRawBufferPointer(
            start: Self.clientPreface.utf8Start, count: Self.clientPreface.utf8CodeUnitCount)
        var at = matched
        for byte in Self.take(preface.count - matched, &input) {
            guard byte == preface[at] else { throw .notHTTP2(at: at) }
            at += 1
        }
        self.state = at == preface.count ? .frameHeader : .preface(at)
    }

    // MARK: Frames begin

    private mutating func began() throws(HTTP2ConnectionError) -> HTTP2Event? {
        let header = self.header
        guard header.length <= self.limits.frameBytesMax else {
            throw .frameTooLarge(header.type, bytes: header.length, bytesMax: self.limits.frameBytesMax)
        }
        if !self.seenSettings {
            guard header.type == .settings, !header.flags.contains(.ack) else {
                throw .firstFrameNotSettings(header.type)
            }
            self.seenSettings = true
        }
        if !self.openBlock.isConnection, header.type != .continuation || header.stream != self.openBlock {
            throw .headerBlockInterrupted(self.openBlock, by: header.type)
        }
        self.remaining = header.length
        self.padding = 0
        self.uncharged = 0
        switch header.type {
        case .data: return try self.beganData()
        case .headers: return try self.beganHeaders()
        case .continuation: return try self.beganContinuation()
        case .priority:
            guard !header.stream.isConnection else { throw .wrongStream(header.type, header.stream) }
            self.skipPayload()
            return header.length == 5
                ? .priorityIgnored(stream: header.stream)
                : .streamError(HTTP2StreamError(header.stream, .wrongPriorityLength(header.length)))
        case .resetStream:
            try self.requireStream()
            return try self.expectControl(header.length == 4)
        case .settings:
            try self.requireConnection()
            guard header.length.isMultiple(of: 6), header.length == 0 || !header.flags.contains(.ack) else {
                throw .wrongLength(header.type, bytes: header.length)
            }
            guard header.length <= 6 * Self.settingsPerFrameMax else {
                throw .tooManySettings(settingsMax: Self.settingsPerFrameMax)
            }
            guard header.length > 0 else {
                self.state = .frameHeader
                return header.flags.contains(.ack) ? .settingsAck : .settings([])
            }
            return try self.expectControl(true)
        case .pushPromise: throw .pushPromise
        case .ping:
            try self.requireConnection()
            return try self.expectControl(header.length == 8)
        case .goAway:
            try self.requireConnection()
            return try self.expectControl(header.length >= 8)
        case .windowUpdate:
            if !header.stream.isConnection { try self.requireStream() }
            return try self.expectControl(header.length == 4)
        default:
            self.skipPayload()
            return .unknownIgnored(header.type)
        }
    }

    /// Nobody pushes, so streams with even numbers are idle for ever, and nothing is legal on an idle stream.
    private func requireStream() throws(HTTP2ConnectionError) {
        guard self.header.stream.isClientInitiated else { throw .wrongStream(self.header.type, self.header.stream) }
    }

    private func requireConnection() throws(HTTP2ConnectionError) {
        guard self.header.stream.isConnection else { throw .wrongStream(self.header.type, self.header.stream) }
    }

    private mutating func expectControl(_ lengthIsRight: Bool) throws(HTTP2ConnectionError) -> HTTP2Event? {
        guard lengthIsRight else { throw .wrongLength(self.header.type, bytes: self.header.length) }
        self.state = .control(min(self.header.length, Self.scratchBytes))
        return nil
    }

    private mutating func skipPayload() {
        self.state = self.remaining == 0 ? .frameHeader : .skip
    }

    private mutating func beganData() throws(HTTP2ConnectionError) -> HTTP2Event? {
        try self.requireStream()
        if self.header.flags.contains(.padded) {
            guard self.header.length >= 1 else { throw .wrongLength(.data, bytes: 0) }
            self.state = .prefix(1)
            return nil
        }
        guard self.remaining > 0 else {
            self.state = .frameHeader
            return .data(
                stream: self.header.stream, bytes: UnsafeRawBufferPointer(start: nil, count: 0), flowControlled: 0,
                endStream: self.header.flags.contains(.endStream))
        }
        self.state = .data
        return nil
    }

    private mutating func beganHeaders() throws(HTTP2ConnectionError) -> HTTP2Event? {
        try self.requireStream()
        let prefix =
            (self.header.flags.contains(.padded) ? 1 : 0) + (self.header.flags.contains(.priority) ? 5 : 0)
        guard self.header.length >= prefix else { throw .wrongLength(.headers, bytes: self.header.length) }
        self.openBlock = self.header.stream
        self.blockEndsStream = self.header.flags.contains(.endStream)
        self.blockBytes = 0
        self.continuations = 0
        try self.countBlock()
        if prefix > 0 {
            self.state = .prefix(prefix)
            return nil
        }
        return self.beganFragment()
    }

    private mutating func beganContinuation() throws(HTTP2ConnectionError) -> HTTP2Event? {
        try self.requireStream()
        guard !self.openBlock.isConnection else { throw .continuationWithoutHeaders(self.header.stream) }
        self.continuations += 1
        guard self.continuations <= self.limits.continuationFramesMax else {
            throw .tooManyContinuations(self.openBlock, framesMax: self.limits.continuationFramesMax)
        }
        try self.countBlock()
        return self.beganFragment()
    }

    private mutating func countBlock() throws(HTTP2ConnectionError) {
        self.blockBytes += self.header.length
        guard self.blockBytes <= self.limits.headerBlockBytesMax else {
            throw .headerBlockTooLarge(self.openBlock, bytesMax: self.limits.headerBlockBytesMax)
        }
    }

    private mutating func beganFragment() -> HTTP2Event? {
        guard self.remaining == 0 else {
            // Trusts the frame's length only as far as countBlock() did.
            self.block.reserveCapacity(self.block.count + self.remaining)
            self.state = .fragment
            return nil
        }
        return self.fragmentEnded()
    }

    // MARK: Payloads

    private mutating func readPrefix(_ bytes: UnsafeRawBufferPointer) throws(HTTP2ConnectionError) -> HTTP2Event? {
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
    private mutating func readData(_ input: inout UnsafeRawBufferPointer) -> HTTP2Event {
        let piece = Self.take(self.remaining, &input)
        self.remaining -= piece.count
        if self.remaining == 0 { self.state = self.padding > 0 ? .padding : .frameHeader }
        return self.dataPiece(piece, padding: 0, isLast: self.remaining == 0 && self.padding == 0)
    }

    private mutating func dataPiece(_ bytes: UnsafeRawBufferPointer, padding: Int, isLast: Bool) -> HTTP2Event {
        defer { self.uncharged = 0 }
        return .data(
            stream: self.header.stream, bytes: bytes, flowControlled: bytes.count + padding + self.uncharged,
            endStream: isLast && self.header.flags.contains(.endStream))
    }

    private mutating func readFragment(_ input: inout UnsafeRawBufferPointer) -> HTTP2Event? {
        let piece = Self.take(self.remaining, &input)
        self.block.append(contentsOf: piece)
        self.remaining -= piece.count
        return self.remaining == 0 ? self.fragmentEnded() : nil
    }

    private mutating func readPadding(_ input: inout UnsafeRawBufferPointer) -> HTTP2Event? {
        let piece = Self.take(self.padding, &input)
        self.padding -= piece.count
        guard self.header.type == .data else { return self.padding == 0 ? self.blockEnded() : nil }
        if self.padding == 0 { self.state = .frameHeader }
        return self.dataPiece(
            UnsafeRawBufferPointer(start: nil, count: 0), padding: piece.count, isLast: self.padding == 0)
    }

    private mutating func fragmentEnded() -> HTTP2Event? {
        guard self.padding == 0 else {
            self.state = .padding
            return nil
        }
        return self.blockEnded()
    }

    private mutating func blockEnded() -> HTTP2Event? {
        self.state = .frameHeader
        guard self.header.flags.contains(.endHeaders) else { return nil }
        let stream = self.openBlock
        self.openBlock = .connection
        var block: [UInt8] = []
        swap(&block, &self.block)
        return .headers(stream: stream, block: block, endStream: self.blockEndsStream)
    }

    private mutating func readControl(_ bytes: UnsafeRawBufferPointer) throws(HTTP2ConnectionError) -> HTTP2Event? {
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
    private static func word(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> UInt32 {
        UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    }
}
