import MeshExchange
import MeshHTTP
import Testing

/// Clients that cost more than they pay for: memory stays bounded, and who goes on is closed.
@Suite("HTTP/2 abuse")
struct HTTP2AbuseTests {
    @Test("rapid reset")
    func rapidReset() {
        let script = HTTP2Script()
        for request in 0..<5_000 where !script.peer.channel.isOver {
            script.get(UInt32(2 * request + 1))
            script.peer.reset(UInt32(2 * request + 1))
        }
        #expect(script.peer.goAways == [.enhanceYourCalm])
        script.waypoint.settle()
        #expect(script.waypoint.server.occupancy.exchanges == 0)
    }

    @Test("SETTINGS, PING, empty DATA, frames without effect", arguments: 0..<6)
    func flood(_ kind: Int) {
        let script = HTTP2Script()
        script.post(1)
        for _ in 0..<20_000 where !script.peer.channel.isOver {
            switch kind {
            case 0: script.send(.settings)
            case 1: script.send(.ping, [], 0, word(0) + word(1))
            case 2: script.send(.data, [], 1)
            case 3: script.send(.priority, [], 1, word(0) + [0])
            case 4: script.send(.ping, .ack, 0, word(0) + word(1))
            default: script.send(.goAway, [], 0, word(0) + word(0))
            }
        }
        #expect(script.peer.goAways == [.enhanceYourCalm])
    }

    @Test("errors on streams")
    func provoked() {
        let script = HTTP2Script()
        for request in 0..<5_000 where !script.peer.channel.isOver {
            script.peer.headers(UInt32(2 * request + 1), sampleGet + [("X", "1")])
        }
        #expect(script.peer.goAways == [.enhanceYourCalm])
    }

    @Test("a header block that never ends")
    func continuations() {
        let script = HTTP2Script()
        script.send(.headers, [], 1, Array(getBlock[..<3]))
        for _ in 0..<64 where !script.peer.channel.isOver { script.send(.continuation, [], 1, []) }
        #expect(script.peer.goAways == [.enhanceYourCalm])
    }

    @Test("a header block that is never continued is not waited for")
    func unfinishedBlock() {
        let script = HTTP2Script()
        script.get(1)
        script.send(.headers, [], 3, Array(getBlock[..<3]))
        for _ in 0..<30 { script.waypoint.settle(after: .seconds(15)) }
        #expect(script.peer.channel.isOver)
    }

    /// Heads know no window.
    private static func answeringWithHeads() -> MemoryWaypoint {
        MemoryWaypoint(plan: { _, _, _ in
            var answer = LocalAnswer(204)
            answer.response.fields.append("x-long", String(repeating: "~", count: 1_000))
            return .answer(answer)
        })
    }

    @Test("who asks on and reads nothing is not heard any more, and serves as before when it reads")
    func unread() {
        let waypoint = Self.answeringWithHeads()
        let peer = waypoint.client()
        var requests = 0
        while peer.channel.leftBytes == 0, requests < 10_000 {
            peer.channel.deliver(frame(.headers, [.endHeaders, .endStream], UInt32(2 * requests + 1), getBlock))
            requests += 1
        }
        #expect(peer.channel.queuedBytes < 600 << 10)
        #expect(requests < 10_000)
        for _ in 0..<100 {
            peer.listen()
            peer.channel.pump()
        }
        #expect((0..<requests).allSatisfy { peer.hasEnded(UInt32(2 * $0 + 1)) })
    }

    @Test("who reads nothing for minutes is closed")
    func neverReads() {
        let waypoint = Self.answeringWithHeads()
        let peer = waypoint.client()
        var stream: UInt32 = 1
        while peer.channel.leftBytes == 0, stream < 20_000 {
            peer.channel.deliver(frame(.headers, [.endHeaders, .endStream], stream, getBlock))
            stream += 2
        }
        for _ in 0..<30 { waypoint.settle(after: .seconds(15)) }
        #expect(peer.channel.wasReset)
        #expect(waypoint.server.occupancy.connections == 0)
    }

    @Test("a window that stays shut costs its stream after a while, and what waits is bounded")
    func zeroWindow() {
        let script = HTTP2Script()
        script.peer.settings([HTTP2Setting(.initialWindowSize, 0)])
        script.get(1)
        script.waypoint.settle()
        _ = script.waypoint.upstreams[0].take()
        let upstream = script.waypoint.upstreams[0]
        upstream.deliver("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        for _ in 0..<1_000 { upstream.deliver(String(repeating: "x", count: 16 << 10)) }
        // Of 16 MB a quarter of one was taken.
        #expect(upstream.leftBytes > 15 << 20)
        for _ in 0..<30 {
            script.waypoint.settle(after: .seconds(15))
            script.peer.listen()
        }
        #expect(script.peer.resetCode(1) == .cancel)
        #expect(script.waypoint.server.occupancy.exchanges == 0)
        #expect(!script.peer.channel.isOver)
    }

    @Test("one stream's shut window does not stop the others")
    func otherStreams() {
        let script = HTTP2Script()
        script.peer.settings([HTTP2Setting(.initialWindowSize, 0)])
        script.get(1)
        script.get(3)
        script.answer()
        script.peer.window(3, 10)
        #expect(script.peer.body(3) == "hello" && script.peer.body(1).isEmpty)
        script.peer.window(1, 10)
        #expect(script.peer.body(1) == "hello")
    }

    @Test("the end of a response does not wait for the connection's window")
    func endOvertakes() {
        let waypoint = MemoryWaypoint()
        let peer = waypoint.client([HTTP2Setting(.initialWindowSize, 1 << 20)])
        peer.headers(1, sampleGet)
        waypoint.settle()
        _ = waypoint.upstreams[0].take()
        // The connection's window, and one byte more.
        waypoint.upstreams[0].deliver(
            "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + String(repeating: "x", count: 65_536))
        peer.headers(3, sampleGet)
        waypoint.settle()
        _ = waypoint.upstreams[1].take()
        waypoint.upstreams[1].deliver("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-end: 1\r\n\r\n")
        peer.listen()
        #expect(peer.hasEnded(3) && !peer.hasEnded(1))
    }
}
