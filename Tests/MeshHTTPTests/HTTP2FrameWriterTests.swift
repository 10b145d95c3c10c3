import MeshHTTP
import Testing

@Suite("The frame writer")
struct HTTP2FrameWriterTests {
    @Test("writes what the reader reads")
    func roundTrip() {
        var bytes: [UInt8] = []
        let one = HTTP2StreamID(1)
        HTTP2FrameWriter.appendClientPreface(to: &bytes)
        HTTP2FrameWriter.appendSettings(
            [HTTP2Setting(.enablePush, 0), HTTP2Setting(.maxFrameSize, 1 << 20)], to: &bytes)
        HTTP2FrameWriter.appendSettingsAck(to: &bytes)
        HTTP2FrameWriter.appendPing(opaque: 0x0102_0304_0506_0708, ack: true, to: &bytes)
        HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: 0x7fff_ffff, to: &bytes)
        HTTP2FrameWriter.appendHeaders(
            stream: one, block: [0x82, 0x86, 0x84], endStream: false, frameBytesMax: 16_384, to: &bytes)
        HTTP2FrameWriter.appendDataHeader(stream: one, length: 2, endStream: true, to: &bytes)
        bytes += [7, 8]
        HTTP2FrameWriter.appendReset(stream: HTTP2StreamID(3), code: .cancel, to: &bytes)
        HTTP2FrameWriter.appendGoAway(lastStream: one, code: .noError, debug: "drain", to: &bytes)
        let transcript = Transcript(bytes, role: .server)
        #expect(transcript.error == nil)
        #expect(
            transcript.lines == [
                "settings [ENABLE_PUSH=0, MAX_FRAME_SIZE=1048576]", "settings ack", "ping 102030405060708 ack",
                "window 0 +2147483647", "headers 1 828684", "data 1 0708 charged 2 end", "reset 3 CANCEL",
                "goaway 1 NO_ERROR drain",
            ])
    }

    @Test("splits a block by the peer's frame size", arguments: [0, 1, 9, 10, 11, 20, 25])
    func continuation(count: Int) {
        let block = (0..<count).map { UInt8($0) }
        var bytes: [UInt8] = []
        HTTP2FrameWriter.appendHeaders(
            stream: HTTP2StreamID(5), block: block, endStream: true, frameBytesMax: 10, to: &bytes)
        #expect(bytes.count == HTTP2FrameWriter.Bytes.headers(block: count, frameBytesMax: 10))
        let transcript = Transcript(emptySettings + bytes)
        #expect(transcript.lines.last == "headers 5 \(hex(block)) end")
    }

    /// Three requests on one connection, in frames so small that each needs CONTINUATION.
    static var requests: [UInt8] {
        var bytes: [UInt8] = []
        var settings = HTTP2Settings()
        settings.enablePush = false
        settings.initialWindowBytes = 4 << 20
        settings.frameBytesMax = 1 << 20
        HTTP2FrameWriter.appendClientPreface(to: &bytes)
        HTTP2FrameWriter.appendSettings(settings.announcement(from: .client), to: &bytes)
        HTTP2FrameWriter.appendWindowUpdate(stream: .connection, increment: 1 << 20, to: &bytes)
        var encoder = HPACKEncoder()
        for id: UInt32 in [1, 3, 5] {
            let block = encoder.encode([
                ":method": "GET", ":scheme": "http", ":path": "/hello.txt", ":authority": "127.0.0.1",
                "user-agent": "martlet",
            ])
            HTTP2FrameWriter.appendHeaders(
                stream: HTTP2StreamID(id), block: block, endStream: true, frameBytesMax: 12, to: &bytes)
        }
        HTTP2FrameWriter.appendPing(opaque: 77, ack: false, to: &bytes)
        HTTP2FrameWriter.appendSettingsAck(to: &bytes)
        return bytes
    }

    @Test("says what nghttpd understood, and understands its answer")
    func nghttpd() throws {
        let recorded = Dictionary(uniqueKeysWithValues: Golden.conversations.map { ($0.maker, $0.bytes) })
        #expect(Self.requests == recorded["martlet"], "changed on purpose? Put it there and run Golden/make.py")
        var reader = HTTP2FrameReader(role: .client)
        var decoder = HPACKDecoder()
        var statuses: [UInt32: Int] = [:]
        var bodies: [UInt32: String] = [:]
        var isPingAnswered = false
        try #require(recorded["nghttpd"]).withUnsafeBytes { whole in
            var input = whole
            while let event = try reader.next(&input) {
                switch event {
                case .headers(let stream, let block, _):
                    statuses[stream.rawValue] = try HTTP2ResponseHead(validating: decoder.decode(block)).status
                case .data(let stream, let bytes, _, _):
                    bodies[stream.rawValue, default: ""] += String(decoding: bytes, as: UTF8.self)
                case .ping(77, ack: true): isPingAnswered = true
                case .goAway, .reset: Issue.record("nghttpd refused: \(event)")
                default: break
                }
            }
        }
        #expect(statuses == [1: 200, 3: 200, 5: 200])
        #expect(bodies == [1: "hello\n", 3: "hello\n", 5: "hello\n"])
        #expect(isPingAnswered)
    }

    @Test("stream identifiers are odd, ascend, and run out")
    func identifiers() {
        var ids = HTTP2StreamIDAllocator()
        #expect(ids.next()?.rawValue == 1)
        #expect(ids.next()?.rawValue == 3)
        var last = HTTP2StreamIDAllocator(first: HTTP2StreamID(0x7fff_fffd))
        #expect(last.remaining == 2)
        #expect(last.next()?.rawValue == 0x7fff_fffd)
        #expect(last.next()?.rawValue == 0x7fff_ffff)
        #expect(last.next() == nil)
        #expect(last.remaining == 0)
    }

    @Test(
        "a header block made in place is framed as one that was made apart", arguments: [0, 10, 16_384, 16_385, 50_000])
    func headersInPlace(_ count: Int) {
        let block = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        var apart: [UInt8] = []
        HTTP2FrameWriter.appendHeaders(
            stream: HTTP2StreamID(7), block: block, endStream: true, frameBytesMax: 16_384, to: &apart)
        var inPlace: [UInt8] = []
        HTTP2FrameWriter.beginHeaders(to: &inPlace)
        inPlace += block
        HTTP2FrameWriter.endHeaders(stream: HTTP2StreamID(7), endStream: true, frameBytesMax: 16_384, &inPlace)
        #expect(inPlace == apart)
    }
}
