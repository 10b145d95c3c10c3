import MeshHTTP
import Testing

@Suite("The frame reader")
struct HTTP2FrameReaderTests {
    /// A conversation with every kind of frame, padded and not.
    static let everything: [UInt8] =
        preface + frame(.settings, [], hex("0003 000000c8 0004 00400000"))
        + frame(.headers, [.endHeaders, .padded, .priority], stream: 1, hex("03 80000000 10 8286 000000"))
        + frame(.headers, [.endStream], stream: 3, hex("82")) + frame(.continuation, [], stream: 3, [])
        + frame(.continuation, .endHeaders, stream: 3, hex("8486"))
        + frame(.data, [], stream: 1, Array("hello".utf8))
        + frame(.data, .padded, stream: 1, [4] + Array("padded".utf8) + [0, 0, 0, 0])
        + frame(.data, .padded, stream: 1, [0]) + frame(.data, [], stream: 1)
        + frame(.windowUpdate, [], stream: 1, hex("80000005"))
        + frame(.data, [.padded, .endStream], stream: 1, [2, 0, 0])
        + frame(.ping, [], hex("0102030405060708")) + frame(.settings, .ack)
        + frame(.priority, [], stream: 2, hex("0000000010")) + frame(.priority, [], stream: 5, hex("00"))
        + frame(HTTP2FrameType(rawValue: 0xbe), [], stream: 8, Array(repeating: 7, count: 300))
        + frame(.windowUpdate, [], stream: 7, hex("00000000")) + frame(.resetStream, [], stream: 3, hex("00000008"))
        + frame(.goAway, [], hex("00000003 0000000b") + Array(repeating: UInt8(ascii: "x"), count: 400))

    static let said = [
        "settings [MAX_CONCURRENT_STREAMS=200, INITIAL_WINDOW_SIZE=4194304]", "headers 1 8286",
        "headers 3 828486 end", "data 1 68656c6c6f706164646564 charged 17", "window 1 +5",
        "data 1  charged 3 end", "ping 102030405060708", "settings ack", "priority 2", "error 5 FRAME_SIZE_ERROR",
        "unknown frame type 190", "error 7 PROTOCOL_ERROR", "reset 3 CANCEL",
        "goaway 3 ENHANCE_YOUR_CALM " + String(repeating: "x", count: 184),
    ]

    @Test("says what every frame means")
    func meaning() {
        let transcript = Transcript(Self.everything, role: .server)
        #expect(transcript.lines == Self.said)
        #expect(transcript.error == nil)
        #expect(transcript.isAtFrameBoundary)
    }

    @Test("says the same wherever the network cuts")
    func cutOnce() {
        for cut in 0...Self.everything.count {
            #expect(Transcript(Self.everything, cuts: [cut], role: .server).lines == Self.said, "cut at \(cut)")
        }
    }

    @Test("says the same when each octet comes alone")
    func cutEverywhere() {
        let cuts = Array(1..<Self.everything.count)
        #expect(Transcript(Self.everything, cuts: cuts, role: .server).lines == Self.said)
    }

    @Test("reads what other implementations said, cut anywhere", arguments: Golden.conversations)
    func recorded(conversation: Golden.Conversation) {
        let bytes = conversation.bytes
        let whole = Transcript(bytes, role: conversation.role)
        #expect(whole.error == nil)
        #expect(whole.lines.count > 3)
        #expect(whole.isAtFrameBoundary)
        // Every position would take seconds in the long header block; its inside is all alike.
        for cut in 0..<bytes.count where cut < 1_500 || cut % 501 == 0 || cut + 300 > bytes.count {
            #expect(Transcript(bytes, cuts: [cut], role: conversation.role) == whole, "cut at \(cut)")
        }
        var random = Seeded(state: 9113)
        for _ in 0..<50 {
            let cuts = (0..<Int.random(in: 1..<60, using: &random))
                .map { _ in Int.random(in: 0...bytes.count, using: &random) }.sorted()
            #expect(Transcript(bytes, cuts: cuts, role: conversation.role) == whole, "cuts at \(cuts)")
        }
    }

    @Test("hands out DATA in place")
    func inPlace() throws {
        var reader = HTTP2FrameReader(role: .client)
        let bytes = emptySettings + frame(.data, [], stream: 1, [1, 2, 3])
        try bytes.withUnsafeBytes { whole in
            var input = whole
            _ = try reader.next(&input)
            guard case .data(_, let slice, _, _)? = try reader.next(&input) else {
                Issue.record("no data")
                return
            }
            #expect(slice.baseAddress == whole.baseAddress! + 18)
            #expect(slice.count == 3)
        }
    }

    @Test("a frame as long as announced is read, one octet more is refused", arguments: [16_384, 1 << 20])
    func frameSize(max: Int) {
        var limits = HTTP2FrameReader.Limits()
        limits.frameBytesMax = max
        let good = emptySettings + frame(.data, [], stream: 1, Array(repeating: 0, count: max))
        #expect(Transcript(good, limits: limits).error == nil)
        let bad = emptySettings + frame(.data, [], stream: 1, length: max + 1)
        #expect(Transcript(bad, limits: limits).error == .frameTooLarge(.data, bytes: max + 1, bytesMax: max))
    }

    struct Rule: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let bytes: [UInt8]
        let error: HTTP2ConnectionError
        var code: HTTP2ErrorCode = .protocolError

        init(
            _ text: String, _ bytes: [UInt8], _ error: HTTP2ConnectionError, _ code: HTTP2ErrorCode = .protocolError
        ) {
            self.testDescription = text
            self.bytes = bytes
            self.error = error
            self.code = code
        }
    }

    static let one = HTTP2StreamID(1)
    static let openBlock = frame(.headers, [], stream: 1, [0x82])
    static let rules: [Rule] = [
        Rule("DATA on the connection", frame(.data, [], [0]), .wrongStream(.data, .connection)),
        Rule("DATA on an even stream", frame(.data, [], stream: 2, [0]), .wrongStream(.data, HTTP2StreamID(2))),
        Rule("padding as long as DATA", frame(.data, .padded, stream: 1, [1]), .paddingTooLong(.data, one)),
        Rule(
            "padding longer than HEADERS", frame(.headers, [.padded, .endHeaders], stream: 1, [9, 0x82]),
            .paddingTooLong(.headers, one)),
        Rule(
            "padded DATA without a pad length", frame(.data, .padded, stream: 1), .wrongLength(.data, bytes: 0),
            .frameSizeError),
        Rule(
            "HEADERS too short for its priority", frame(.headers, .priority, stream: 1, [0, 0, 0, 1]),
            .wrongLength(.headers, bytes: 4), .frameSizeError),
        Rule("HEADERS on the connection", frame(.headers, .endHeaders, [0x82]), .wrongStream(.headers, .connection)),
        Rule(
            "HEADERS on an even stream", frame(.headers, .endHeaders, stream: 4, [0x82]),
            .wrongStream(.headers, HTTP2StreamID(4))),
        Rule(
            "PRIORITY on the connection", frame(.priority, [], hex("0000000000")), .wrongStream(.priority, .connection)),
        Rule(
            "RST_STREAM on the connection", frame(.resetStream, [], hex("00000000")),
            .wrongStream(.resetStream, .connection)),
        Rule(
            "RST_STREAM of 3 octets", frame(.resetStream, [], stream: 1, [0, 0, 0]),
            .wrongLength(.resetStream, bytes: 3), .frameSizeError),
        Rule("SETTINGS on a stream", frame(.settings, [], stream: 1), .wrongStream(.settings, one)),
        Rule(
            "SETTINGS of 5 octets", frame(.settings, [], hex("0001000000")), .wrongLength(.settings, bytes: 5),
            .frameSizeError),
        Rule(
            "SETTINGS ack with payload", frame(.settings, .ack, hex("000100000000")),
            .wrongLength(.settings, bytes: 6), .frameSizeError),
        Rule(
            "SETTINGS with 33 settings", frame(.settings, [], Array(repeating: 0, count: 6 * 33)),
            .tooManySettings(settingsMax: 32), .enhanceYourCalm),
        Rule("PUSH_PROMISE", frame(.pushPromise, .endHeaders, stream: 1, hex("00000002")), .pushPromise),
        Rule("PING on a stream", frame(.ping, [], stream: 1, Array(repeating: 0, count: 8)), .wrongStream(.ping, one)),
        Rule(
            "PING of 7 octets", frame(.ping, [], Array(repeating: 0, count: 7)), .wrongLength(.ping, bytes: 7),
            .frameSizeError),
        Rule(
            "GOAWAY on a stream", frame(.goAway, [], stream: 1, Array(repeating: 0, count: 8)),
            .wrongStream(.goAway, one)),
        Rule(
            "GOAWAY of 7 octets", frame(.goAway, [], Array(repeating: 0, count: 7)), .wrongLength(.goAway, bytes: 7),
            .frameSizeError),
        Rule(
            "WINDOW_UPDATE of 5 octets", frame(.windowUpdate, [], hex("0000000100")),
            .wrongLength(.windowUpdate, bytes: 5), .frameSizeError),
        Rule(
            "WINDOW_UPDATE of zero for the connection", frame(.windowUpdate, [], hex("00000000")), .zeroWindowIncrement),
        Rule(
            "WINDOW_UPDATE on an even stream", frame(.windowUpdate, [], stream: 2, hex("00000001")),
            .wrongStream(.windowUpdate, HTTP2StreamID(2))),
        Rule(
            "CONTINUATION alone", frame(.continuation, .endHeaders, stream: 1, [0x82]), .continuationWithoutHeaders(one)
        ),
        Rule(
            "CONTINUATION after a finished block",
            frame(.headers, .endHeaders, stream: 1, [0x82]) + frame(.continuation, .endHeaders, stream: 1),
            .continuationWithoutHeaders(one)),
        Rule(
            "DATA inside a header block", openBlock + frame(.data, [], stream: 1),
            .headerBlockInterrupted(one, by: .data)),
        Rule(
            "an unknown frame inside a header block", openBlock + frame(HTTP2FrameType(rawValue: 99)),
            .headerBlockInterrupted(one, by: HTTP2FrameType(rawValue: 99))),
        Rule(
            "CONTINUATION of another stream", openBlock + frame(.continuation, .endHeaders, stream: 3),
            .headerBlockInterrupted(one, by: .continuation)),
    ]

    @Test("ends the connection with the right code", arguments: rules)
    func malformed(rule: Rule) {
        let transcript = Transcript(emptySettings + rule.bytes)
        #expect(transcript.error == rule.error)
        #expect(transcript.error?.code == rule.code)
        #expect(rule.error.description.hasPrefix(rule.code.description + ": "))
    }

    @Test("wants the client's preface, and says what came instead")
    func clientPreface() {
        #expect(Transcript(Array("GET / HTTP/1.1\r\n".utf8), role: .server).error == .notHTTP2(at: 0))
        #expect(Transcript(Array("PRI * HTTP/1.1".utf8), role: .server).error == .notHTTP2(at: 11))
        #expect(Transcript(preface, cuts: [7], role: .server).error == nil)
    }

    @Test("wants SETTINGS first, and no acknowledgement")
    func settingsFirst() {
        #expect(Transcript(frame(.ping, [], Array(repeating: 0, count: 8))).error == .firstFrameNotSettings(.ping))
        #expect(Transcript(frame(.settings, .ack)).error == .firstFrameNotSettings(.settings))
    }

    @Test("bounds a header block by octets, before it collects them")
    func blockBytes() {
        var limits = HTTP2FrameReader.Limits()
        limits.headerBlockBytesMax = 20_000
        let first = emptySettings + frame(.headers, [], stream: 1, Array(repeating: 0x82, count: 16_000))
        #expect(
            Transcript(
                first + frame(.continuation, .endHeaders, stream: 1, Array(repeating: 0x82, count: 4_000)),
                limits: limits
            )
            .error == nil)
        // Only the header of the frame has come.
        let error = Transcript(first + frame(.continuation, [], stream: 1, length: 4_001), limits: limits).error
        #expect(error == .headerBlockTooLarge(Self.one, bytesMax: 20_000))
        #expect(error?.code == .enhanceYourCalm)
    }

    @Test("bounds a header block by frames: the CONTINUATION flood")
    func continuationFlood() {
        let flood = Self.openBlock + (0..<17).flatMap { _ in frame(.continuation, [], stream: 1) }
        let error = Transcript(emptySettings + flood).error
        #expect(error == .tooManyContinuations(Self.one, framesMax: 16))
        #expect(error?.code == .enhanceYourCalm)
    }

    @Test("knows when the peer stops inside a frame", arguments: [1, 8, 9, 12])
    func cutShort(count: Int) {
        let bytes = emptySettings + frame(.data, [], stream: 1, [1, 2, 3, 4]).prefix(count)
        #expect(!Transcript(bytes).isAtFrameBoundary)
    }

    @Test("survives random octets", arguments: 0..<40)
    func random(seed: Int) {
        var random = Seeded(state: UInt64(seed))
        for _ in 0..<50 {
            // Frames with random contents get deeper than bare noise.
            var bytes = emptySettings
            for _ in 0..<Int.random(in: 1..<12, using: &random) {
                let payload = (0..<Int.random(in: 0..<30, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                bytes += frame(
                    HTTP2FrameType(rawValue: .random(in: 0..<11, using: &random)),
                    HTTP2FrameFlags(rawValue: .random(in: 0...255, using: &random)),
                    stream: .random(in: 0..<4, using: &random), payload)
            }
            if Bool.random(using: &random) { bytes[.random(in: 9..<bytes.count, using: &random)] ^= 1 << 3 }
            let cut = Int.random(in: 0...bytes.count, using: &random)
            #expect(Transcript(bytes) == Transcript(bytes, cuts: [cut]))
        }
    }
}
