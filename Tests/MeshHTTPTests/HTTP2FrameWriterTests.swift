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
}
