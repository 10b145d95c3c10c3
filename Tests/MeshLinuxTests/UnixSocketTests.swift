import Glibc
import MeshLinux
import Testing

@Suite("A unix packet socket")
struct UnixSocketTests {
    @Test("passes one descriptor with its packet, and the descriptor still names the same file")
    func descriptor() throws {
        let (one, other) = try UnixSocket.pair(.sequencedPackets)
        let namespace = try NetworkNamespace.current()
        try namespace.withDescriptor { try one.send([1, 2, 3], passing: $0, timeout: .seconds(1)) }
        guard var packet = try other.receive(bytesMax: 16, timeout: .seconds(1)) else {
            Issue.record("nothing came")
            return
        }
        let bytes = packet.bytes
        #expect(bytes == [1, 2, 3])
        let taken = packet.takeDescriptor()
        let passed = try #require(taken)
        let again = packet.takeDescriptor()
        #expect(again == nil, "it is given away once")
        let here = try NetworkNamespace(adopting: passed).identity()
        let wanted = try namespace.identity()
        #expect(here == wanted)
    }

    @Test("keeps boundaries, and refuses a packet that is too long instead of cutting it")
    func boundaries() throws {
        let (one, other) = try UnixSocket.pair(.sequencedPackets)
        try one.send([1], timeout: .seconds(1))
        try one.send(Array(repeating: 2, count: 17), timeout: .seconds(1))
        try one.send([3], timeout: .seconds(1))
        let first = try other.receive(bytesMax: 16, timeout: .seconds(1))?.bytes
        #expect(first == [1])
        do {
            _ = try other.receive(bytesMax: 16, timeout: .seconds(1))
            Issue.record("a cut packet was taken")
        } catch {
            #expect(error.code == EMSGSIZE)
        }
        let third = try other.receive(bytesMax: 16, timeout: .seconds(1))?.bytes
        #expect(third == [3])
    }

    @Test("says when the peer has closed, when nothing comes in time, and when it is woken")
    func ends() throws {
        let (one, other) = try UnixSocket.pair(.sequencedPackets)
        do {
            _ = try other.receive(bytesMax: 1, timeout: .milliseconds(1))
            Issue.record("received from a silent peer")
        } catch {
            #expect(error.isTimeout)
        }
        let wakeup = try Wakeup()
        wakeup.signal()
        do {
            _ = try other.receive(bytesMax: 1, timeout: nil, wakeup: wakeup)
            Issue.record("received from a silent peer")
        } catch {
            #expect(error.isWoken)
        }
        one.shutDown()
        let hasEnded = try other.receive(bytesMax: 1, timeout: .seconds(1)) == nil
        #expect(hasEnded)
        #expect(throws: SystemError.self) { try other.send([1], timeout: .seconds(1)) }
    }
}

@Suite("Requests over a unix socket", .timeLimit(.minutes(1)))
struct UnixHTTPTests {
    @Test("reach the handler whole, and the answer comes back")
    func exchange() async throws {
        let path = "/tmp/unix-http-\(getpid()).sock"
        let server = try UnixHTTPServer(path: path, mode: 0o666)
        #expect(try Files.information(path)?.mode == 0o666)
        let serving = Task {
            try await server.run { request in
                UnixHTTPResponse(status: 200, text: "\(request.method) \(request.target) \(request.body.count)")
            }
        }
        let body = [UInt8](repeating: 7, count: 300_000)
        let answers = try await withThrowingTaskGroup(of: UnixHTTPResponse.self) { group in
            for _ in 0..<100 {
                group.addTask {
                    try await KernelThread.perform {
                        try UnixHTTP.post(socket: path, target: "/cmdadd", body: body, timeout: .seconds(30))
                    }
                }
            }
            return try await group.reduce(into: [UnixHTTPResponse]()) { $0.append($1) }
        }
        #expect(answers.count == 100)
        #expect(answers.allSatisfy { $0 == UnixHTTPResponse(status: 200, text: "POST /cmdadd 300000") })
        serving.cancel()
        try await serving.value
        do {
            _ = try UnixHTTP.post(socket: path, target: "/", body: [], timeout: .seconds(1))
            Issue.record("an answer from nobody")
        } catch {
            guard case .nobodyListening = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test("are read however the bytes are cut")
    func pieces() throws {
        let message = Array("POST /a HTTP/1.1\r\nContent-Length: 3\r\nX: y\r\n\r\nabc".utf8)
        for cut in 1..<message.count {
            var reader = UnixHTTPReader()
            #expect(try reader.received(Array(message[..<cut])) == nil)
            let whole = try #require(try reader.received(Array(message[cut...])))
            #expect(whole.startLine == "POST /a HTTP/1.1")
            #expect(whole.body == Array("abc".utf8))
        }
    }

    @Test(
        "are refused when they are not what the plugin sends",
        arguments: [
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nnonsense\r\n\r\n",
            String(repeating: "x", count: 9000),
        ])
    func malformed(text: String) {
        var reader = UnixHTTPReader()
        #expect(throws: UnixHTTPReader.Malformed.self) { try reader.received(Array(text.utf8)) }
    }
}
