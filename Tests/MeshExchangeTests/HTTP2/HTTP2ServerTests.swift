import MeshExchange
import MeshHTTP
import MeshRoutes
import Testing

/// What a client of HTTP/2 sees beyond the rules that every server keeps.
@Suite("HTTP/2 clients")
struct HTTP2ServerTests {
    @Test("trailers go through, but for those that would change the message")
    func trailers() {
        let script = HTTP2Script()
        script.post(1)
        script.peer.data(1, "abc")
        script.peer.headers(1, [("x-sum", "1"), ("content-length", "9"), ("host", "other")])
        script.waypoint.settle()
        let request = String(decoding: script.waypoint.upstreams[0].take(), as: UTF8.self)
        #expect(request.hasSuffix("3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"))
        script.waypoint.upstreams[0].deliver(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 2\r\n\r\n")
        script.peer.listen()
        #expect(script.peer.body(1) == "ok")
        #expect(script.peer.said.last == .head(1, ["x-end": "2"], end: true))
    }

    @Test("a response before the request's end is followed by RST_STREAM(NO_ERROR), behind its last byte")
    func earlyResponse() {
        let script = HTTP2Script()
        script.peer.settings([HTTP2Setting(.initialWindowSize, 2)])
        script.post(1)
        script.answer()
        #expect(script.peer.body(1) == "he")
        #expect(script.peer.resetCode(1) == nil)
        script.peer.data(1, "late")
        script.peer.window(1, 100)
        #expect(script.peer.body(1) == "hello")
        #expect(script.peer.resetCode(1) == .noError)
        // What the client had sent before it knew.
        script.peer.data(1, "later", end: true)
        #expect(script.peer.goAways.isEmpty)
    }

    @Test("a header list beyond the limit is answered with 431, and the connection lives")
    func headersTooLarge() {
        let script = HTTP2Script()
        // One entry of the table, many times: 70 KiB unfolded.
        let value = String(repeating: "v", count: 3_000)
        let block = getBlock + [0x40] + literal("x-long") + literal(value) + Array(repeating: 0xBE, count: 23)
        script.send(.headers, [.endHeaders, .endStream], 1, block)
        #expect(script.peer.head(1)?[":status"] == "431")
        script.get(3)
        script.answer()
        #expect(script.peer.body(3) == "hello")
    }

    @Test("CONNECT has no place inside a tunnel")
    func connect() {
        let script = HTTP2Script()
        script.peer.headers(1, [(":method", "CONNECT"), (":authority", "cart:80")], end: false)
        #expect(script.peer.head(1)?[":status"] == "405")
        #expect(script.peer.resetCode(1) == .noError)
    }

    @Test("cookies are joined, lengths are one")
    func single() {
        let script = HTTP2Script()
        script.post(1, [("cookie", "a=1"), ("content-length", "2"), ("cookie", "b=2"), ("content-length", "2")])
        script.peer.data(1, "xy", end: true)
        script.waypoint.settle()
        let request = String(decoding: script.waypoint.upstreams[0].take(), as: UTF8.self)
        #expect(request.contains("cookie: a=1; b=2\r\n"))
        #expect(request.components("content-length: 2\r\n") == 1)
        #expect(!request.contains("transfer-encoding"))
    }

    // MARK: Draining

    @Test("draining refuses nothing that was on its way")
    func drain() {
        let script = HTTP2Script()
        script.get(1)
        script.waypoint.server.drain()
        script.peer.listen()
        #expect(script.peer.said.first == .goAway(HTTP2StreamID.largest, .noError))
        guard case .ping(let opaque, false) = script.peer.said.last else {
            Issue.record("no PING")
            return
        }
        // The client had not heard it yet.
        script.get(3)
        script.send(.ping, .ack, 0, word(UInt32(opaque >> 32)) + word(UInt32(opaque & 0xFFFF_FFFF)))
        #expect(script.peer.said.last == .goAway(3, .noError))
        script.get(5)
        #expect(script.peer.resetCode(5) == .refusedStream)
        #expect(!script.peer.channel.isOver)
        script.answer()
        #expect(script.peer.body(1) == "hello" && script.peer.body(3) == "hello")
        #expect(script.peer.channel.isOver && !script.peer.channel.wasReset)
    }

    @Test("a client that does not answer the PING is not waited for")
    func drainUnanswered() {
        let script = HTTP2Script()
        script.waypoint.server.drain()
        script.waypoint.settle(after: .seconds(2))
        script.peer.listen()
        #expect(script.peer.goAways == [.noError, .noError])
        #expect(script.peer.channel.isOver)
    }

    @Test("an idle connection is closed, one with a request is not")
    func idle() {
        let script = HTTP2Script()
        script.get(1)
        script.waypoint.settle(after: .seconds(4_000))
        #expect(!script.peer.channel.isOver)
        script.answer()
        script.waypoint.settle(after: .seconds(3_000))
        #expect(!script.peer.channel.isOver)
        script.waypoint.settle(after: .seconds(700))
        #expect(script.peer.channel.isOver)
    }

    // MARK: Windows

    @Test("a large upload is credited as the endpoint takes it")
    func upload() {
        let script = HTTP2Script()
        script.post(1)
        script.waypoint.settle()
        let piece = String(repeating: "x", count: 16_384)
        // Four times the stream's window, and more than the connection's.
        for _ in 0..<320 {
            script.peer.data(1, piece)
            _ = script.waypoint.upstreams[0].take()
        }
        #expect(script.peer.goAways.isEmpty && script.peer.resetCode(1) == nil)
        let credited = script.peer.said.reduce(0) { if case .window(1, let bytes) = $1 { $0 + bytes } else { $0 } }
        #expect(credited > 320 * 16_384 - 2 * 262_144)
    }

    @Test("who sends more than its window is told")
    func windowExceeded() {
        let script = HTTP2Script()
        script.post(1)
        // The endpoint is not there yet: nothing is credited beyond what is kept for it.
        let piece = String(repeating: "x", count: 16_384)
        for _ in 0..<40 { script.peer.data(1, piece) }
        #expect(script.peer.resetCode(1) == .flowControlError)
    }

    @Test("DATA of a reset stream is thrown away, up to its window")
    func dataAfterReset() {
        let script = HTTP2Script()
        script.post(1, [("content-length", "1")])
        script.peer.data(1, "too long")
        #expect(script.peer.resetCode(1) == .protocolError)
        let piece = String(repeating: "x", count: 16_384)
        for _ in 0..<15 { script.peer.data(1, piece) }
        #expect(script.peer.goAways.isEmpty)
        for _ in 0..<2 { script.peer.data(1, piece) }
        #expect(script.peer.goAways == [.flowControlError])
    }

    @Test("an endpoint that answers while it is given a body costs the stream, not the process")
    func answeredInside() {
        let script = HTTP2Script()
        script.post(1)
        script.waypoint.settle()
        script.peer.data(1, "abc")
        script.waypoint.upstreams[0].closeByPeer(reset: true)
        script.peer.data(1, "def", end: true)
        script.peer.listen()
        #expect(script.peer.head(1)?[":status"] == "503")
        script.get(3)
        script.answer()
        #expect(script.peer.body(3) == "hello")
    }
}

extension String {
    /// How often `part` is in it.
    fileprivate func components(_ part: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.firstRange(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
