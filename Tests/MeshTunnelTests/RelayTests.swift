import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

@Suite("Bytes through two proxies", .timeLimit(.minutes(3)))
struct RelayTests {
    @Test("P11 32 MB each way arrive as they were sent")
    func intact() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        let sent = patternBytes(32 << 20, seed: 7)
        let socket = try pods.connect()
        async let received = offThread { try socket.receiveToEnd() }
        try await offThread {
            try socket.send(sent)
            socket.finishWriting()
        }
        let isIntact = try await received == sent
        #expect(isIntact)
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.error == nil)
        #expect(end.end.sent == 32 << 20)
        #expect(end.end.received == 32 << 20)
        #expect(end.record.peerIdentity == TwoPods.serverIdentity)
        let inbound = try await pods.serverObserver.firstClosed()
        #expect(inbound.end.error == nil)
        #expect(inbound.end.received == 32 << 20)
        #expect(inbound.record.peerIdentity == TwoPods.clientIdentity)
        let logs = await pods.stop()
        #expect(logs.client.mistakes.isEmpty && logs.server.mistakes.isEmpty)
    }

    @Test("P11 random small writes, many at once, stay on their own streams")
    func manyStreams() async throws {
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, configure: { $0.loops = 2 }, configureServer: { $0.loops = 2 })
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for seed in 0..<40 as Range<UInt64> {
                group.addTask {
                    try await offThread {
                        let socket = try pods.connect()
                        let bytes = patternBytes(20_000 + Int(seed) * 997, seed: seed)
                        var at = 0
                        var back: [UInt8] = []
                        var step = Int(seed) + 1
                        while at < bytes.count {
                            let end = min(bytes.count, at + step)
                            try socket.send(bytes[at..<end])
                            back += try socket.receive(exactly: end - at)
                            at = end
                            step = step * 3 % 7919 + 1
                        }
                        return back == bytes
                    }
                }
            }
            for try await isIntact in group { #expect(isIntact) }
        }
        // One tunnel per loop is enough for all of them.
        #expect(pods.client.statistics.outboundHandshakes <= 2)
        #expect(pods.client.statistics.streams == 40)
        _ = await pods.stop()
    }

    @Test("the client ends first: the server still answers")
    func halfCloseByClient() async throws {
        let server = try BlockingServer { socket in
            guard let request = try? socket.receiveToEnd() else { return }
            try? socket.send(request.reversed())
            socket.finishWriting()
        }
        let pods = try TwoPods(target: server.port)
        let answer = try await offThread {
            let socket = try pods.connect()
            try socket.send([1, 2, 3])
            socket.finishWriting()
            return try socket.receiveToEnd()
        }
        #expect(answer == [3, 2, 1])
        let end = try await pods.clientObserver.firstClosed()
        #expect(end.end.error == nil)
        _ = await pods.stop()
    }

    @Test("the server ends first: the client still sends")
    func halfCloseByServer() async throws {
        let server = try BlockingServer { socket in
            try? socket.send([9])
            socket.finishWriting()
            guard let rest = try? socket.receiveToEnd(), rest.count == 100_000 else { socket.resetOnClose(); return }
        }
        let pods = try TwoPods(target: server.port)
        try await offThread {
            let socket = try pods.connect()
            let first = try socket.receiveToEnd()
            #expect(first == [9])
            try socket.send(patternBytes(100_000, seed: 1))
            socket.finishWriting()
        }
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.error == nil)
        #expect(end.end.received == 100_000)
        _ = await pods.stop()
    }

    @Test("a client that ends without a byte ends the server's connection too")
    func nothing() async throws {
        let server = try BlockingServer { socket in _ = try? socket.receiveToEnd() }
        let pods = try TwoPods(target: server.port)
        let answer = try await offThread {
            let socket = try pods.connect()
            socket.finishWriting()
            return try socket.receiveToEnd()
        }
        #expect(answer.isEmpty)
        let end = try await pods.serverObserver.firstClosed()
        #expect(end.end.error == nil)
        _ = await pods.stop()
    }

    @Test("bytes and end sent before the tunnel exists are not lost")
    func edgeBeforeFirstRead() async throws {
        // The edge of these bytes comes while nobody reads the socket yet.
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port)
        for count in [1, 16_375, 16_376, 70_000] {
            let sent = patternBytes(count, seed: 3)
            let back = try await offThread {
                let socket = try pods.connect()
                try socket.send(sent)
                socket.finishWriting()
                return try socket.receiveToEnd()
            }
            #expect(back == sent)
        }
        _ = await pods.stop()
    }

    @Test("a reset by the client resets the server's connection")
    func resetByClient() async throws {
        let server = try BlockingServer { socket in
            try? socket.send([1])
            do {
                _ = try socket.receiveToEnd()
            } catch let failure as BlockingSocket.Failure where failure.isReset {
                return
            } catch {}
            Issue.record("the server saw an orderly end instead of a reset")
        }
        let pods = try TwoPods(target: server.port)
        try await offThread {
            let socket = try pods.connect()
            _ = try socket.receive(exactly: 1)
            socket.resetOnClose()
        }
        let inbound = try await pods.serverObserver.firstClosed()
        #expect(inbound.end.error?.contains("reset the stream: CONNECT_ERROR") == true)
        let outbound = try await pods.clientObserver.firstClosed()
        #expect(outbound.end.error?.contains("application's connection broke") == true)
        _ = await pods.stop()
    }

    @Test("a reset by the server resets the client's connection")
    func resetByServer() async throws {
        let server = try BlockingServer { socket in
            _ = try? socket.receive(exactly: 1)
            socket.resetOnClose()
        }
        let pods = try TwoPods(target: server.port)
        await #expect(throws: BlockingSocket.Failure.self) {
            try await offThread {
                let socket = try pods.connect()
                try socket.send([1])
                _ = try socket.receiveToEnd()
            }
        }
        _ = await pods.stop()
    }

    @Test("a reader that stops holds only its own stream, and loses nothing")
    func slowReader() async throws {
        let gate = Gate()
        let server = try BlockingServer { socket in
            guard let first = try? socket.receive(exactly: 1).first else { return }
            if first == 1 { gate.waitUntilOpen() }
            var count = 0
            while let next = try? socket.receive(256 << 10), !next.isEmpty { count += next.count }
            try? socket.send("\(count)".utf8)
            socket.finishWriting()
        }
        let pods = try TwoPods(target: server.port)
        async let slow = offThread {
            let socket = try pods.connect()
            try socket.send([1])
            // More than every buffer on the way together: the windows of the stream must shut.
            try socket.send([UInt8](repeating: 1, count: 48 << 20))
            socket.finishWriting()
            return String(decoding: try socket.receiveToEnd(), as: UTF8.self)
        }
        let quick = try await offThread {
            let socket = try pods.connect()
            try socket.send([2])
            try socket.send([UInt8](repeating: 2, count: 20 << 20))
            socket.finishWriting()
            return String(decoding: try socket.receiveToEnd(), as: UTF8.self)
        }
        #expect(quick == "\(20 << 20)")
        gate.open()
        let count = try await slow
        #expect(count == "\(48 << 20)")
        #expect(pods.client.statistics.outboundHandshakes == 1)
        _ = await pods.stop()
    }

    @Test("a client that does not read makes the server wait, and loses nothing")
    func slowClient() async throws {
        let server = try BlockingServer { socket in
            try? socket.send(patternBytes(24 << 20, seed: 11))
            socket.finishWriting()
            _ = try? socket.receiveToEnd()
        }
        let pods = try TwoPods(target: server.port)
        let socket = try pods.connect()
        // The other direction ends while the window of this one is shut: the end needs no window.
        socket.finishWriting()
        _ = await pods.clientObserver.wait { !$0.opened.isEmpty }
        let received = try await offThread { try socket.receiveToEnd() }
        let isIntact = received == patternBytes(24 << 20, seed: 11)
        #expect(isIntact)
        _ = await pods.stop()
    }
}
