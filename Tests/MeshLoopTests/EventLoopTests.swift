import MeshLoop
import MeshModel
import MeshTestSupport
import Synchronization
import Testing

@Suite("An event loop", .timeLimit(.minutes(1)))
struct EventLoopTests {
    private func withLoop<R: Sendable>(_ body: (EventLoop) async throws -> R) async throws -> R {
        let loop = try EventLoop(name: "test")
        loop.start()
        let result = try await body(loop)
        await loop.stop()
        return result
    }

    @Test("runs jobs of other threads, in order, on its own thread")
    func jobs() async throws {
        let seen = Mutex<[Int]>([])
        try await self.withLoop { loop in
            await withCheckedContinuation { continuation in
                for i in 0..<1_000 {
                    loop.execute {
                        precondition(loop.isCurrent)
                        seen.withLock { $0.append(i) }
                        if i == 999 { continuation.resume() }
                    }
                }
            }
            #expect(!loop.isCurrent)
        }
        #expect(seen.withLock { $0 } == Array(0..<1_000))
    }

    @Test("fires timers in the order of their deadlines, and not the cancelled ones")
    func timers() async throws {
        let fired = Mutex<[Int]>([])
        try await self.withLoop { loop in
            await withCheckedContinuation { continuation in
                loop.execute {
                    var timers: [LoopTimer] = []
                    for (i, delay) in [30, 10, 20, 15, 40].enumerated() {
                        let timer = LoopTimer(loop: loop) {
                            fired.withLock { $0.append(i) }
                            if i == 4 { continuation.resume() }
                        }
                        timer.arm(after: .milliseconds(delay))
                        timers.append(timer)
                    }
                    timers[3].cancel()
                    timers[2].arm(after: .milliseconds(35))
                    #expect(timers[2].isArmed && !timers[3].isArmed)
                }
            }
        }
        #expect(fired.withLock { $0 } == [1, 0, 2, 4])
    }

    @Test("accepts on a listener, and tells both addresses")
    func listener() async throws {
        try await self.withLoop { loop in
            var options = Sockets.ListenOptions(
                local: IPEndpoint(address: IPAddress(v6High: 0, low: 0), port: 0))
            options.isDualStack = true
            let listening = try Sockets.listen(options)
            let peer: IPEndpoint = try await withCheckedThrowingContinuation { continuation in
                loop.execute {
                    var open: Listener?
                    let listener = Listener(
                        listening, loop: loop,
                        accepted: { descriptor, peer in
                            #expect(Sockets.localEndpoint(of: descriptor)?.port == listening.port)
                            #expect(Sockets.originalDestination(of: descriptor) == nil)
                            Sockets.closeDescriptor(descriptor)
                            open?.stop()
                            open = nil
                            continuation.resume(returning: peer)
                        }, shortage: { _ in })
                    open = listener
                    do { try listener.start() } catch { continuation.resume(throwing: error) }
                    _ = try? BlockingSocket.connect(port: listening.port, waiting: false)
                }
            }
            // IPv4 through a dual-stack socket is IPv4.
            #expect(peer.address == IPAddress(v4: 0x7f00_0001))
        }
    }

    @Test("a dial to nobody fails later, or at once, but never hangs")
    func dialNobody() async throws {
        let port = try BlockingServer.echo().port
        let descriptor = try? Sockets.dial(
            Sockets.DialOptions(target: IPEndpoint(address: IPAddress(v4: 0x7f00_0001), port: port)))
        if let descriptor { Sockets.closeDescriptor(descriptor) }
    }

    @Test("bytes that a socket refused keep their order and leave no memory")
    func pending() throws {
        var pending = PendingBytes()
        let server = try BlockingServer.echo()
        let socket = try BlockingSocket.connect(port: server.port)
        let bytes = patternBytes(50_000, seed: 4)
        bytes.withUnsafeBytes {
            pending.append($0.baseAddress!, 20_000)
            pending.append($0.baseAddress! + 20_000, 30_000)
        }
        #expect(pending.count == 50_000)
        let result = pending.write(to: socket.descriptor)
        #expect(result.written == 50_000 && pending.isEmpty)
        #expect(try socket.receive(exactly: 50_000) == bytes)
    }
}
