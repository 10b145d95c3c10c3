import MeshHTTP

/// Octets from hexadecimal digits; spaces and line breaks are for the reader.
func hex(_ text: String) -> [UInt8] {
    let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
    precondition(digits.count.isMultiple(of: 2))
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String(UInt16($0) | 0x100, radix: 16).dropFirst() }.joined()
}

/// A frame as octets; `length` and `type` may lie.
func frame(
    _ type: HTTP2FrameType, _ flags: HTTP2FrameFlags = [], stream: UInt32 = 0, _ payload: [UInt8] = [],
    length: Int? = nil
) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 9)
    bytes.withUnsafeMutableBytes {
        HTTP2FrameHeader(
            length: length ?? payload.count, type: type, flags: flags, stream: HTTP2StreamID(stream)
        ).write(to: $0.baseAddress!)
    }
    return bytes + payload
}

/// What a peer of ours says before anything else.
let emptySettings = frame(.settings)
let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

/// Everything that a reader says about some octets, as text; neighbouring pieces of DATA are joined, so that where
/// the input was cut does not show.
struct Transcript: Equatable {
    var lines: [String] = []
    var error: HTTP2ConnectionError?
    var isAtFrameBoundary = true

    /// - Parameter cuts: where the input is cut, ascending.
    init(
        _ bytes: [UInt8], cuts: [Int] = [], role: HTTP2FrameReader.Role = .client,
        limits: HTTP2FrameReader.Limits = .init()
    ) {
        var reader = HTTP2FrameReader(role: role, limits: limits)
        var open: (stream: HTTP2StreamID, bytes: [UInt8], charged: Int)?
        var from = 0
        func flush(_ end: Bool = false) {
            guard let data = open else { return }
            self.lines.append(
                "data \(data.stream) \(Self.text(data.bytes)) charged \(data.charged)\(end ? " end" : "")")
            open = nil
        }
        for to in cuts + [bytes.count] {
            // A piece of its own allocation: reading past it would be seen.
            let piece = Array(bytes[from..<to])
            from = to
            piece.withUnsafeBytes { whole in
                var input = whole
                do throws(HTTP2ConnectionError) {
                    while let event = try reader.next(&input) {
                        guard case .data(let stream, let slice, let charged, let end) = event else {
                            flush()
                            self.lines.append(Self.line(event))
                            continue
                        }
                        if let data = open, data.stream != stream { flush() }
                        open = (stream, (open?.bytes ?? []) + slice, (open?.charged ?? 0) + charged)
                        if end { flush(true) }
                    }
                    precondition(input.isEmpty, "the reader stopped early")
                } catch { self.error = error }
            }
            if self.error != nil { break }
        }
        flush()
        self.isAtFrameBoundary = reader.isAtFrameBoundary
    }

    /// Long contents as a hash, so that thousands of transcripts compare in no time.
    private static func text(_ bytes: [UInt8]) -> String {
        bytes.count <= 64 ? hex(bytes) : "\(bytes.count) octets, hash \(bytes.hashValue)"
    }

    private static func line(_ event: HTTP2Event) -> String {
        switch event {
        case .data: preconditionFailure()
        case .headers(let stream, let block, let end): "headers \(stream) \(Self.text(block))\(end ? " end" : "")"
        case .reset(let stream, let code): "reset \(stream) \(code)"
        case .settings(let settings): "settings \(settings)"
        case .settingsAck: "settings ack"
        case .ping(let opaque, let ack): "ping \(String(opaque, radix: 16))\(ack ? " ack" : "")"
        case .goAway(let last, let code, let debug):
            "goaway \(last) \(code) \(String(decoding: debug, as: UTF8.self))"
        case .windowUpdate(let stream, let increment): "window \(stream) +\(increment)"
        case .priorityIgnored(let stream): "priority \(stream)"
        case .unknownIgnored(let type): "unknown \(type)"
        case .streamError(let error): "error \(error.stream) \(error.code)"
        }
    }
}

/// SplitMix64: the same sequence for the same seed on every machine.
struct Seeded: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var z = self.state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
