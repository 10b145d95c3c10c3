/// Takes the octets of a connection as they arrive, cut anywhere, and gives out what they say.
///
/// Performs no I/O and keeps no stream state. DATA is handed out in place, as slices of the caller's buffer; only
/// header blocks and cut control frames are collected, each within a named bound. Checked here: everything in
/// RFC 9113 sections 3.4, 4, 5.1.1 and 6 that can be judged without knowing which streams are open.
///
///     preface ─▶ frameHeader ─▶ data | fragment | control | skip ─▶ padding ─▶ frameHeader
///
/// What a frame header decides is in `+Begin`, what becomes of the payload in `+Payload`.
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

    enum State {
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
    var state: State
    var seenSettings = false
    /// The frame whose payload is being read.
    var header = HTTP2FrameHeader(length: 0, type: .data, stream: .connection)
    /// Payload octets of the frame still to come, padding excluded.
    var remaining = 0
    var padding = 0
    /// 1 until the pad length octet has been charged to the windows.
    var uncharged = 0
    var block: [UInt8] = []
    var blockBytes = 0
    var blockEndsStream = false
    var continuations = 0
    /// The stream whose header block is open; the connection when none is.
    var openBlock = HTTP2StreamID.connection

    /// Cut frame headers and control payloads are put together here.
    /// Made when the first one is cut, which on most connections none ever is.
    private var scratch: UnsafeMutableRawBufferPointer?
    private var scratchCount = 0
    static let scratchBytes = 6 * settingsPerFrameMax  // = 8 + goAwayDebugBytesMax

    /// - Parameter role: who *we* are; a server first expects the client's preface.
    package init(role: Role, limits: Limits = Limits()) {
        precondition(
            limits.frameBytesMax >= HTTP2Settings.frameBytesMin && limits.frameBytesMax <= Self.frameBytesCeiling,
            "frameBytesMax must be 16 KiB to 1 MiB")
        self.limits = limits
        self.state = role == .server ? .preface(0) : .frameHeader
    }

    deinit { self.scratch?.deallocate() }

    /// Header blocks begun since the start.
    package internal(set) var blocksBegun: UInt64 = 0
    /// A header block is begun and not complete: until it is, no other frame can come.
    package var isInsideHeaderBlock: Bool { !self.openBlock.isConnection }

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
    static func take(_ count: Int, _ input: inout UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
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
        let scratch = self.scratch ?? .allocate(byteCount: Self.scratchBytes, alignment: 8)
        self.scratch = scratch
        let piece = Self.take(count - self.scratchCount, &input)
        if let from = piece.baseAddress, !piece.isEmpty {
            // SAFETY: scratchCount + piece.count <= count <= scratchBytes.
            (scratch.baseAddress! + self.scratchCount).copyMemory(from: from, byteCount: piece.count)
        }
        self.scratchCount += piece.count
        guard self.scratchCount == count else { return nil }
        self.scratchCount = 0
        return UnsafeRawBufferPointer(rebasing: scratch[..<count])
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
}
