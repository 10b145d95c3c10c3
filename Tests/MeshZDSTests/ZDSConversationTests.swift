import Glibc
import Logging
import MeshLinux
import MeshZDS
import Synchronization
import Testing

/// Both sides of ZDS over a real socket, with our own network namespace standing in for the pods'.
@Suite("A node agent and its node proxies", .timeLimit(.minutes(1)))
struct ZDSConversationTests {
    /// A proxy that notes what it is told.
    final class Recorder: ZDSHandler {
        private let notes: AsyncStream<String>.Continuation
        let stream: AsyncStream<String>
        let refusal = Mutex<String?>(nil)

        init() { (self.stream, self.notes) = AsyncStream.makeStream() }

        func connected() async { self.notes.yield("connected") }
        func add(_ pod: ZDSPod, namespace: consuming NetworkNamespace) async -> String? {
            let identity = try? namespace.identity()
            let ours = try? NetworkNamespace.current().identity()
            self.notes.yield("add \(pod.uid) \(pod.serviceAccount) \(identity == ours ? "namespace" : "WRONG")")
            return self.refusal.withLock { $0 }
        }
        func keep(uid: String) async { self.notes.yield("keep \(uid)") }
        func delete(uid: String) async { self.notes.yield("delete \(uid)") }
        func snapshotSent() async { self.notes.yield("snapshot") }
        func disconnected() async { self.notes.yield("disconnected") }
        func wantsConnection() async -> Bool { true }

        /// The next `count` notes.
        func next(_ count: Int) async -> [String] {
            var seen: [String] = []
            for await note in self.stream {
                seen.append(note)
                if seen.count == count { break }
            }
            return seen
        }
    }

    static func pod(_ uid: String) -> ZDSPod {
        ZDSPod(uid: uid, name: "web", namespace: "shop", serviceAccount: "web")
    }

    static let limit = Duration.seconds(30)

    static func receive(_ socket: UnixSocket) throws -> [UInt8]? {
        try socket.receive(bytesMax: ZDS.packetBytesMax, timeout: Self.limit)?.bytes
    }

    let log = Logger(label: "zds-tests", factory: { _ in SwiftLogNoOpLogHandler() })

    /// Runs a server with a snapshot of one add and one keep for as long as the body runs.
    func withServer(
        _ body: @Sendable @escaping (ZDSServer, _ path: String, SharedNetworkNamespace) async throws -> Void
    ) async throws {
        let directory = "/tmp/zds-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        try Files.makeDirectory(directory)
        defer { rmdir(directory) }
        let path = "\(directory)/z.sock"
        let namespace = try SharedNetworkNamespace(try NetworkNamespace.current())
        // The proxies here are tasks, which may wait for their turn while other suites work.
        let server = try ZDSServer(path: path, log: self.log, answerLimit: Self.limit)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                await server.run { [.add(Self.pod("one"), namespace), .keep(uid: "two")] }
            }
            try await body(server, path, namespace)
            group.cancelAll()
        }
        #expect(try Files.information(path) == nil, "the socket file is removed")
    }

    @Test("a proxy gets the snapshot, then live adds and deletes, each acknowledged")
    func order() async throws {
        try await self.withServer { server, path, namespace in
            let proxy = Recorder()
            let running = Task { await ZDSClient(path: path, log: self.log).run(handler: proxy) }
            #expect(await proxy.next(4) == ["connected", "add one web namespace", "keep two", "snapshot"])
            #expect(server.connectedCount == 1)
            try await server.add(Self.pod("three"), namespace)
            await server.delete(uid: "one")
            #expect(await proxy.next(2) == ["add three web namespace", "delete one"])
            running.cancel()
            await running.value
            #expect(await proxy.next(1) == ["disconnected"])
        }
    }

    @Test("every proxy gets adds and deletes; who is left when one goes has the pods")
    func newest() async throws {
        try await self.withServer { server, path, namespace in
            let (old, new) = (Recorder(), Recorder())
            let first = Task { await ZDSClient(path: path, log: self.log).run(handler: old) }
            _ = await old.next(4)
            let second = Task { await ZDSClient(path: path, log: self.log).run(handler: new) }
            _ = await new.next(4)
            try await server.add(Self.pod("three"), namespace)
            await server.delete(uid: "three")
            #expect(await new.next(2) == ["add three web namespace", "delete three"])
            #expect(await old.next(2) == ["add three web namespace", "delete three"])
            try await server.add(Self.pod("four"), namespace)
            #expect(await old.next(1) == ["add four web namespace"])
            second.cancel()
            await second.value
            #expect(server.isServed(uid: "four"))
            // One that finds the dead connection still there is asked of the other, too.
            try await server.add(Self.pod("five"), namespace)
            #expect(await old.next(1) == ["add five web namespace"])
            first.cancel()
            await first.value
        }
    }

    @Test("a refusal reaches the caller with the proxy's reason, and the connection lives on")
    func refusal() async throws {
        try await self.withServer { server, path, namespace in
            let proxy = Recorder()
            let running = Task { await ZDSClient(path: path, log: self.log).run(handler: proxy) }
            _ = await proxy.next(4)
            proxy.refusal.withLock { $0 = "port 15001 is taken" }
            await #expect(throws: ZDSError.refused("port 15001 is taken")) {
                try await server.add(Self.pod("three"), namespace)
            }
            proxy.refusal.withLock { $0 = nil }
            try await server.add(Self.pod("three"), namespace)
            running.cancel()
            await running.value
        }
    }

    @Test("without a proxy an add fails at once and a delete has nobody to tell")
    func nobody() async throws {
        try await self.withServer { server, _, namespace in
            await #expect(throws: ZDSError.notConnected) { try await server.add(Self.pod("x"), namespace) }
            await server.delete(uid: "x")
        }
    }

    @Test("a proxy that closes instead of answering fails the order, and does not count any more")
    func closes() async throws {
        try await self.withServer { server, path, namespace in
            // On a thread of its own: what it waits for is done by tasks.
            let proxy = Task {
                try await KernelThread.perform { () throws -> [UInt8] in
                    let socket = try UnixSocket.connect(to: path, .sequencedPackets)
                    try socket.send(ZDS.hello, timeout: Self.limit)
                    for _ in 0..<3 {
                        _ = try #require(try Self.receive(socket))
                        try socket.send(ZDSResponse().encoded, timeout: Self.limit)
                    }
                    let order = try #require(try Self.receive(socket))
                    socket.shutDown()
                    return order
                }
            }
            try await self.eventually { server.connectedCount == 1 }
            await #expect(throws: ZDSError.self) { try await server.add(Self.pod("three"), namespace) }
            #expect(try await ZDSRequest(decoding: proxy.value) == .add(Self.pod("three")))
            try await self.eventually { server.connectedCount == 0 }
        }
    }

    /// For what has no event; the suite's time limit bounds it.
    private func eventually(_ condition: () -> Bool) async throws {
        while !condition() { try await Task.sleep(for: .milliseconds(5)) }
    }

    @Test("a proxy reconnects by itself when the agent restarts")
    func restart() async throws {
        let proxy = Recorder()
        let directory = "/tmp/zds-\(getpid())-restart"
        try Files.makeDirectory(directory)
        defer { rmdir(directory) }
        let path = "\(directory)/z.sock"
        let running = Task { await ZDSClient(path: path, log: self.log).run(handler: proxy) }
        for _ in 0..<2 {
            let server = try ZDSServer(path: path, log: self.log, answerLimit: Self.limit)
            let serving = Task { await server.run { [] } }
            #expect(await proxy.next(2) == ["connected", "snapshot"])
            serving.cancel()
            await serving.value
            #expect(await proxy.next(1) == ["disconnected"])
        }
        running.cancel()
        await running.value
    }
}
