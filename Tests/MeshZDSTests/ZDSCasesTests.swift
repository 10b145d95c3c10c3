import Glibc
import Logging
import MeshLinux
import MeshZDS
import Testing

/// The cases of the contract that need a scripted agent: what the node proxy's side says, byte by byte.
@Suite("A node proxy and a scripted node agent", .timeLimit(.minutes(2)))
struct ZDSCasesTests {
    typealias Recorder = ZDSConversationTests.Recorder
    static let limit = Duration.seconds(30)

    /// The agent's end, used on threads of its own: what it waits for is done by tasks.
    struct Agent: Sendable {
        let listener: UnixListener

        func accept() async throws -> UnixSocket {
            let listener = self.listener
            return try await KernelThread.performCancellable { try listener.accept(wakeup: $0) }
        }

        /// Nil: the proxy has closed.
        static func receive(_ socket: UnixSocket) async throws -> [UInt8]? {
            try await KernelThread.perform { try socket.receive(bytesMax: 4096, timeout: ZDSCasesTests.limit)?.bytes }
        }

        static func send(
            _ bytes: [UInt8], passing namespace: SharedNetworkNamespace? = nil, to socket: UnixSocket
        ) async throws {
            try await KernelThread.perform {
                guard let namespace else { return try socket.send(bytes, timeout: ZDSCasesTests.limit) }
                try namespace.namespace.withDescriptor {
                    try socket.send(bytes, passing: $0, timeout: ZDSCasesTests.limit)
                }
            }
        }
    }

    func withAgent(
        _ body: @Sendable @escaping (Agent, Recorder) async throws -> Void
    ) async throws {
        let directory = "/tmp/zds-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        try Files.makeDirectory(directory)
        defer { rmdir(directory) }
        let path = "\(directory)/z.sock"
        let listener = try UnixListener(path: path, .sequencedPackets, mode: 0o600)
        defer { listener.unlink() }
        let proxy = Recorder()
        let log = Logger(label: "zds-tests", factory: { _ in SwiftLogNoOpLogHandler() })
        let running = Task { await ZDSClient(path: path, log: log).run(handler: proxy) }
        do {
            try await body(Agent(listener: listener), proxy)
        } catch {
            running.cancel()
            await running.value
            throw error
        }
        running.cancel()
        await running.value
    }

    @Test("Z1: says hello first, and answers an add with an empty acknowledgement once the pod is served")
    func hello() async throws {
        try await self.withAgent { agent, proxy in
            let namespace = try SharedNetworkNamespace(try NetworkNamespace.current())
            let socket = try await agent.accept()
            #expect(try await Agent.receive(socket) == [0x08, 0x01])
            let add = try ZDSRequest.add(ZDSConversationTests.pod("u1")).encoded()
            try await Agent.send(add, passing: namespace, to: socket)
            #expect(try await Agent.receive(socket) == [0x0a, 0x00])
            #expect(await proxy.next(2) == ["connected", "add u1 web namespace"])
        }
    }

    @Test("Z11: an add that does not say which pod is refused as a broken protocol, and the proxy connects anew")
    func withoutInformation() async throws {
        try await self.withAgent { agent, proxy in
            let namespace = try SharedNetworkNamespace(try NetworkNamespace.current())
            let socket = try await agent.accept()
            _ = try await Agent.receive(socket)
            // An add with a UID and no workload_info.
            try await Agent.send([0x0a, 0x04, 0x0a, 0x02, 0x75, 0x31], passing: namespace, to: socket)
            let answer = try #require(try await Agent.receive(socket))
            #expect(try ZDSResponse(decoding: answer).error?.contains("malformed") == true)
            #expect(try await Agent.receive(socket) == nil)
            let next = try await agent.accept()
            #expect(try await Agent.receive(next) == ZDS.hello)
            #expect(await proxy.next(3) == ["connected", "disconnected", "connected"])
        }
    }

    @Test("Z12: a delete that carries a descriptor breaks the connection, and nothing is deleted")
    func unexpectedDescriptor() async throws {
        try await self.withAgent { agent, proxy in
            let namespace = try SharedNetworkNamespace(try NetworkNamespace.current())
            let socket = try await agent.accept()
            _ = try await Agent.receive(socket)
            try await Agent.send(try ZDSRequest.delete(uid: "u1").encoded(), passing: namespace, to: socket)
            let answer = try #require(try await Agent.receive(socket))
            #expect(try ZDSResponse(decoding: answer).error?.contains("descriptor") == true)
            #expect(try await Agent.receive(socket) == nil)
            _ = try await agent.accept()
            #expect(await proxy.next(3) == ["connected", "disconnected", "connected"])
        }
    }

    @Test("Z13: an agent that closes at once never makes the proxy ready, and is tried again with growing waits")
    func closesAtOnce() async throws {
        try await self.withAgent { agent, proxy in
            var times: [ContinuousClock.Instant] = []
            for _ in 0..<6 {
                let socket = try await agent.accept()
                times.append(.now)
                socket.shutDown()
            }
            // 10, 20, 40, 80 and 160 ms, and whatever the machine adds.
            #expect(times.last! - times.first! >= .milliseconds(300))
            let socket = try await agent.accept()
            #expect(try await Agent.receive(socket) == ZDS.hello)
            try await Agent.send(try ZDSRequest.snapshotSent.encoded(), to: socket)
            #expect(try await Agent.receive(socket) == [0x0a, 0x00])
            // Only the last connection brought a snapshot.
            var notes: [String] = []
            while notes.last != "snapshot" { notes += await proxy.next(1) }
            #expect(notes.filter { $0 == "snapshot" }.count == 1)
        }
    }

    @Test("a proxy that wants no connection any more ends")
    func ends() async throws {
        final class Leaving: ZDSHandler {
            func connected() async {}
            func add(_ pod: ZDSPod, namespace: consuming NetworkNamespace) async -> String? { nil }
            func keep(uid: String) async {}
            func delete(uid: String) async {}
            func snapshotSent() async {}
            func disconnected() async {}
            func wantsConnection() async -> Bool { false }
        }
        let log = Logger(label: "zds-tests", factory: { _ in SwiftLogNoOpLogHandler() })
        await ZDSClient(path: "/nowhere", log: log).run(handler: Leaving())
    }
}
