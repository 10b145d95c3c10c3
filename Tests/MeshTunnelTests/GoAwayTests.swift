import MeshHTTP
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

@Suite("GOAWAY", .timeLimit(.minutes(3)))
struct GoAwayTests {
    private static let largest: UInt32 = 0x7fff_ffff

    @Test("drain says it twice: what was on its way is served, what comes after is refused")
    func twice() async throws {
        let victim = try Victim()
        let client = try await offThread { () -> Box in Box(try victim.honest()) }
        async let drained: Void = victim.pods.server.drain(deadline: .seconds(60))
        try await offThread {
            let client = client.tunnel
            var frame = try client.next()
            #expect(frame == .goAway(last: Self.largest, .noError))
            guard case .ping(let opaque, ack: false) = try client.next() else {
                Issue.record("no PING behind the first GOAWAY")
                return
            }
            // This CONNECT has crossed the GOAWAY.
            try client.send(client.connect(3, victim.authority))
            guard case .headers(3, let answer, _) = try client.next() else {
                Issue.record("the racing stream was not served")
                return
            }
            #expect(answer[":status"] == "200")
            try client.pong(opaque)
            frame = try client.next()
            #expect(frame == .goAway(last: 3, .noError))
            try client.send(client.connect(5, victim.authority))
            frame = try client.next()
            #expect(frame == .reset(5, .refusedStream))
            // The open streams go on to their end.
            try client.echo([1, 2, 3])
            try client.send(RawTunnel.data(1, [], endStream: true) + RawTunnel.data(3, [], endStream: true))
            while (try? client.next()) != nil {}
        }
        await drained
        await victim.pods.client.drain(deadline: .zero)
        let ends = victim.pods.serverObserver.log.closed
        #expect(ends.count == 2 && ends.allSatisfy { $0.end.error == nil })
    }

    @Test("an idle tunnel drains in one round trip")
    func idle() async throws {
        let victim = try Victim()
        let client = try await offThread { () -> Box in Box(try victim.tunnel()) }
        try await eventually { victim.pods.server.statistics.inboundTunnels == 1 }
        async let drained: Void = victim.pods.server.drain(deadline: .seconds(60))
        try await offThread {
            let client = client.tunnel
            while true {
                let frame = try client.nextAnswering()
                if frame == .goAway(last: 0, .noError) { break }
            }
            client.socket.finishWriting()
        }
        await drained
        await victim.pods.client.drain(deadline: .zero)
    }

    @Test("a removed pod: its streams are reset, its peers are told, and then the namespace may go")
    func podRemoved() async throws {
        let victim = try Victim()
        let client = try await offThread { () -> Box in Box(try victim.honest()) }
        let gate = Gate()
        victim.pods.server.removePod(uid: TwoPods.serverPod.uid) { gate.open() }
        try await offThread {
            let client = client.tunnel
            var frame = try client.next()
            #expect(frame == .reset(1, .cancel))
            frame = try client.next()
            #expect(frame == .goAway(last: 1, .noError))
            // Nothing of this is lost to a reset, and a stream that raced is named as untouched.
            try client.send(client.connect(3, victim.authority))
            frame = try client.next()
            #expect(frame == .reset(3, .refusedStream))
            client.socket.finishWriting()
            gate.waitUntilOpen()
        }
        #expect(victim.pods.server.statistics.inboundTunnels == 0)
        let end = try await victim.pods.serverObserver.firstClosed()
        #expect(end.end.error?.contains("left the mesh") == true)
        _ = await victim.pods.stop()
    }

    @Test("a removed pod without tunnels is gone at once, and so is one that nobody knows")
    func nothingToTell() async throws {
        let victim = try Victim()
        for uid in [TwoPods.serverPod.uid, "nobody"] {
            await withCheckedContinuation { continuation in
                victim.pods.server.removePod(uid: uid) { continuation.resume() }
            }
        }
        _ = await victim.pods.stop()
    }

    @Test("a tunnel that is too old takes no new streams; those it has go on")
    func age() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configure: { $0.tunnelAgeMax = .milliseconds(50) })
        try await offThread {
            let first = try pods.connect()
            try first.send([1])
            _ = try first.receive(exactly: 1)
            // Until the old one has taken its leave a new connection may still find it.
            while pods.client.statistics.outboundHandshakes < 2 {
                let next = try pods.connect()
                try next.send([2])
                _ = try next.receive(exactly: 1)
            }
            try first.send([3])
            let back = try first.receive(exactly: 1)
            #expect(back == [3])
        }
        _ = await pods.stop()
    }
}

/// A raw tunnel on its way from one thread of a test to another; they take turns.
// @unchecked: used by one thread at a time.
final class Box: @unchecked Sendable {
    let tunnel: RawTunnel
    init(_ tunnel: RawTunnel) { self.tunnel = tunnel }
}
