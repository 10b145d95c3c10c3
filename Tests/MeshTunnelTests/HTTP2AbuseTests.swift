import MeshHTTP
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// Peers with a good certificate and bad intentions, by real bytes. Each must lose its own tunnel, with the right
/// code, while the tunnel beside it works on.
@Suite("HTTP/2 abuse of the HBONE port", .timeLimit(.minutes(3)))
struct HTTP2AbuseTests {
    private static let limits = HTTP2FloodGuard.Limits()

    private static func repeated(_ count: Int, _ bytes: [UInt8]) -> [UInt8] {
        [[UInt8]](repeating: bytes, count: count).flatMap { $0 }
    }

    @Test("rapid reset: streams opened and reset before their answer")
    func rapidReset() async throws {
        let log = try await Victim.attack { victim, attacker in
            var bytes: [UInt8] = []
            for i in 0...UInt32(Self.limits.unansweredResetMax) {
                bytes += attacker.connect(2 * i + 1, victim.hangingAuthority)
                bytes += RawTunnel.frame(3, 0, 2 * i + 1, [0, 0, 0, 8])
            }
            attacker.flood(bytes)
            #expect(attacker.goAway() == .enhanceYourCalm)
        }
        #expect(log.closed.count >= Self.limits.unansweredResetMax)
    }

    @Test("requests beyond the stream limit")
    func refusedStreams() async throws {
        _ = try await Victim.attack(configure: { $0.inboundStreamsMax = 1 }) { victim, attacker in
            var bytes = attacker.connect(1, victim.hangingAuthority)
            for i in 1...UInt32(Self.limits.refusedStreamMax + 1) { bytes += attacker.connect(2 * i + 1, "a:1") }
            attacker.flood(bytes)
            #expect(attacker.goAway() == .enhanceYourCalm)
        }
    }

    /// What costs nothing to send and something to answer; the count that is too many.
    static let floods: [(name: String, frame: [UInt8], count: Int)] = [
        ("SETTINGS", RawTunnel.frame(4, 0, 0), limits.settingsMax),
        ("PING", RawTunnel.frame(6, 0, 0, [UInt8](repeating: 7, count: 8)), limits.pingMax),
        ("PRIORITY", RawTunnel.frame(2, 0, 1, [0, 0, 0, 0, 1]), limits.uselessMax),
        ("unknown frames", RawTunnel.frame(0xfa, 0, 0), limits.uselessMax),
        ("SETTINGS acknowledgements", RawTunnel.frame(4, 1, 0), limits.uselessMax),
        ("resets of streams that are gone", RawTunnel.frame(3, 0, 1, [0, 0, 0, 8]), limits.uselessMax),
        ("credit for streams that are gone", RawTunnel.frame(8, 0, 1, [0, 0, 0, 1]), limits.uselessMax),
        ("WINDOW_UPDATE of zero", RawTunnel.frame(8, 0, 1, [0, 0, 0, 0]), limits.provokedResetMax),
    ]

    @Test("floods of small frames", arguments: floods)
    func flood(_ flood: (name: String, frame: [UInt8], count: Int)) async throws {
        _ = try await Victim.attack { _, attacker in
            attacker.flood(Self.repeated(flood.count + 1, flood.frame))
            #expect(attacker.goAway() == .enhanceYourCalm, "\(flood.name)")
        }
    }

    @Test("empty DATA frames on an open stream")
    func emptyData() async throws {
        _ = try await Victim.attack { victim, attacker in
            try attacker.send(attacker.connect(1, victim.authority))
            attacker.flood(Self.repeated(Self.limits.emptyDataMax + 1, RawTunnel.data(1, [])))
            #expect(attacker.goAway() == .enhanceYourCalm)
        }
    }

    @Test("CONTINUATION without end: many frames, or many bytes")
    func continuation() async throws {
        for payload in [[], [UInt8](repeating: 0, count: 16_000)] {
            _ = try await Victim.attack { _, attacker in
                let more = RawTunnel.frame(9, 0, 1, payload)
                attacker.flood(RawTunnel.frame(1, 0, 1) + Self.repeated(40, more))
                #expect(attacker.goAway() == .enhanceYourCalm)
            }
        }
    }

    @Test("a header block that unfolds to a multiple of the limit")
    func headerBomb() async throws {
        _ = try await Victim.attack { _, attacker in
            // One field of 4 000 octets goes into the table; then it is named, one octet for each time.
            let count = 3_900
            let length: [UInt8] = [0x7f, UInt8((count - 127) & 127 | 128), UInt8((count - 127) >> 7)]
            let name: [UInt8] = [0x40, 1, 120]
            let value = [UInt8](repeating: 97, count: count)
            let bomb = name + length + value + [UInt8](repeating: 0xbe, count: 100)
            attacker.flood(RawTunnel.frame(1, 5, 1, bomb))
            #expect(attacker.goAway() == .enhanceYourCalm)
        }
    }

    @Test("a header list a little over the limit costs its stream and not the tunnel")
    func largeList() async throws {
        _ = try await Victim.attack { victim, attacker in
            var list: HTTP2HeaderList = [":method": "CONNECT", ":authority": victim.authority]
            // 32 octets are counted for each field, which no block limit sees.
            for i in 0..<2_500 { list.append("x\(i)", "") }
            attacker.flood(attacker.headers(1, list))
            guard case .reset(1, let code) = try attacker.nextAnswering() else {
                Issue.record("the stream was not reset")
                return
            }
            #expect(code == .protocolError)
            try attacker.send(attacker.connect(3, victim.authority))
            guard case .headers(3, let answer, _) = try attacker.nextAnswering() else {
                Issue.record("the tunnel did not survive")
                return
            }
            #expect(answer[":status"] == "200")
        }
    }

    @Test("a header block that is begun and dribbled")
    func dribbledHeaders() async throws {
        let configure: (inout TunnelConfiguration) -> Void = { $0.pingInterval = .milliseconds(60) }
        _ = try await Victim.attack(configure: configure) { _, attacker in
            try attacker.send(RawTunnel.frame(1, 0, 1, [0x40]))
            // Nothing may be sent in between, not even the answer to a PING.
            var code: HTTP2ErrorCode?
            while code == nil, let frame = try? attacker.next() {
                if case .goAway(_, let said) = frame { code = said }
            }
            #expect(code == .enhanceYourCalm)
        }
    }

    /// Bytes that break flow control, and how.
    static let windows: [(name: String, bytes: [UInt8], code: HTTP2ErrorCode)] = [
        ("connection window above 2^31-1", RawTunnel.frame(8, 0, 0, [0x7f, 255, 255, 255]), .flowControlError),
        ("credit of zero for the connection", RawTunnel.frame(8, 0, 0, [0, 0, 0, 0]), .protocolError),
        ("initial window above 2^31-1", RawTunnel.frame(4, 0, 0, [0, 4, 128, 0, 0, 0]), .flowControlError),
        ("frame size below the minimum", RawTunnel.frame(4, 0, 0, [0, 5, 0, 0, 0, 1]), .protocolError),
        ("a frame larger than announced", [16, 0, 1, 0, 0, 0, 0, 0, 1], .frameSizeError),
        ("HTTP/1.1 after the preface", Array("GET / HTTP/1.1\r\n\r\n".utf8), .frameSizeError),
    ]

    @Test("broken flow control and frames", arguments: windows)
    func window(_ attack: (name: String, bytes: [UInt8], code: HTTP2ErrorCode)) async throws {
        _ = try await Victim.attack { _, attacker in
            attacker.flood(attack.bytes)
            #expect(attacker.goAway() == attack.code, "\(attack.name)")
        }
    }

    @Test("a stream's window above 2^31-1 costs the stream")
    func streamWindow() async throws {
        _ = try await Victim.attack { victim, attacker in
            try attacker.send(
                attacker.connect(1, victim.hangingAuthority) + RawTunnel.frame(8, 0, 1, [0x7f, 255, 255, 255]))
            let frame = try attacker.nextAnswering()
            #expect(frame == .reset(1, .flowControlError))
        }
    }

    @Test("a window of zero: nothing is sent into it, and the tunnel works on")
    func zeroWindow() async throws {
        _ = try await Victim.attack { victim, attacker in
            try attacker.send(RawTunnel.frame(4, 0, 0, [0, 4, 0, 0, 0, 0]) + attacker.connect(1, victim.authority))
            guard case .headers(1, _, _) = try attacker.nextAnswering() else {
                Issue.record("no answer")
                return
            }
            try attacker.send(RawTunnel.data(1, [9, 8, 7, 6]) + RawTunnel.frame(6, 0, 0, [0, 0, 0, 0, 0, 0, 0, 5]))
            var frame = try attacker.nextAnswering()
            #expect(frame == .ping(5, ack: true))
            try attacker.send(RawTunnel.frame(8, 0, 1, [0, 0, 0, 3]))
            frame = try attacker.nextAnswering()
            #expect(frame == .data(1, [9, 8, 7], endStream: false))
        }
    }

    @Test("a peer that takes everything and reads nothing is given up; memory stays bounded meanwhile")
    func slowReader() async throws {
        let configure: (inout TunnelConfiguration) -> Void = {
            $0.pingInterval = .milliseconds(100)
            $0.pingTimeout = .milliseconds(300)
        }
        let victim = try Victim(configure)
        let firehose = try BlockingServer { socket in
            while (try? socket.send([UInt8](repeating: 1, count: 1 << 16))) != nil {}
        }
        try await offThread {
            let honest = try victim.honest()
            let attacker = try victim.tunnel()
            var bytes = RawTunnel.frame(4, 0, 0, [0, 4, 0x7f, 255, 255, 255])
            bytes += RawTunnel.frame(8, 0, 0, [0x70, 0, 0, 0])
            try attacker.send(bytes + attacker.connect(1, "127.0.0.1:\(firehose.port)"))
            while victim.pods.server.statistics.inboundTunnels == 2 { try honest.echo([1]) }
            try honest.echo([2])
            withExtendedLifetime(attacker) {}
        }
        let logs = await victim.pods.stop()
        #expect(logs.server.closed.contains { $0.end.error?.contains("did not answer a PING") == true })
    }

    @Test("peers that connect and say nothing push out each other, and not who speaks")
    func halfOpen() async throws {
        let victim = try Victim { $0.unprovenTunnelsMax = 3 }
        try await offThread {
            let silent = try (0..<4).map { _ in try victim.socket() }
            let first = try? silent[0].receive()
            #expect(first == nil || first == [], "the oldest is closed")
            try victim.honest().echo([1])
            withExtendedLifetime(silent) {}
        }
        let logs = await victim.pods.stop()
        #expect(logs.server.refused.contains { $0.text.contains("connecting to port 15008 without speaking") })
    }

    @Test("more tunnels than a pod may have are refused; those that are open stay")
    func tooMany() async throws {
        let victim = try Victim { $0.inboundTunnelsPerPodMax = 1 }
        try await offThread {
            let honest = try victim.honest()
            #expect(throws: (any Error).self) { try victim.honest() }
            try honest.echo([1])
        }
        let logs = await victim.pods.stop()
        #expect(logs.server.refused.contains { $0.text.contains("already has 1 inbound tunnels") })
    }

    @Test(
        "curl, a stranger that speaks HTTP/2 well, is answered and gone", .enabled(if: PeerProgram.find("curl") != nil))
    func curl() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, ca: ca)
        let folder = try PeerFolder(try ca.issue(TwoPods.clientIdentity))
        let output = try await PeerProgram.run(
            PeerProgram.find("curl")!,
            [
                "-sk", "--http2", "--cert", "chain.pem", "--key", "key.pem", "-o", "/dev/null", "-w",
                "%{http_version} %{http_code}", "https://127.0.0.1:\(pods.serverPorts.inboundTunnel)/",
            ], in: folder)
        #expect(output == "2 400")
        _ = await pods.stop()
    }
}
