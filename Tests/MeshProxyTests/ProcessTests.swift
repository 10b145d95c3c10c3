import Foundation
import FoundationNetworking
import MeshCA
import MeshCertificates
import MeshIdentity
import MeshModel
import MeshProcess
import MeshProxy
import MeshTelemetry
import MeshTunnel
import MeshXDS
import Synchronization
import Testing

/// Notes what it is told.
private final class ScriptedTunnel: Tunnel {
    private let state = Mutex<(events: [String], views: Int)>(([], 0))
    private let draining = Mutex<(@Sendable () async -> Void)?>(nil)
    /// What happens while it drains.
    func drains(_ body: @escaping @Sendable () async -> Void) { self.draining.withLock { $0 = body } }
    func publish(_ revocation: Revocation) {}
    func publish(_ view: any MeshView) { self.state.withLock { $0.views += 1 } }
    func certificateRenewed(_ identity: WorkloadIdentity) {}
    func serve(_ pod: EnrolledPod, namespace descriptor: CInt) throws {
        self.state.withLock { $0.events.append("serve \(pod.name)") }
    }
    func serveSelf(_ pod: EnrolledPod) throws { self.state.withLock { $0.events.append("serve self \(pod.name)") } }
    func removePod(uid: String, whenDone: @escaping @Sendable () -> Void) {
        self.state.withLock { $0.events.append("remove \(uid)") }
        whenDone()
    }
    func drain(deadline: Duration) async {
        self.state.withLock { $0.events.append("drain \(deadline)") }
        await self.draining.withLock { $0 }?()
    }
    var events: [String] { self.state.withLock { $0.events } }
    var views: Int { self.state.withLock { $0.views } }
}

private struct NoSigner: CertificateSigner {
    struct Refused: Error {}
    func sign(_ identity: WorkloadIdentity) async throws -> SignedCertificate { throw Refused() }
}

private struct Namespace: PodNamespace {
    let key = "net1"
    func withDescriptor(_ body: (CInt) throws -> Void) rethrows { try body(-1) }
}

/// Hands over one value to whoever waits for it.
private final class Handed<Value: Sendable>: Sendable {
    private let (stream, continuation) = AsyncStream.makeStream(of: Value.self)
    func give(_ value: Value) { self.continuation.yield(value) }
    func take() async -> Value {
        for await value in self.stream { return value }; fatalError("nothing was handed over")
    }
}

@Suite("The node proxy process", .timeLimit(.minutes(2)), .serialized)
struct ProcessTests {
    private struct Answer: Equatable {
        let status: Int
        let text: String
        init(_ status: Int, _ text: String) {
            self.status = status
            self.text = text
        }
    }

    private func get(_ port: Int, _ path: String, method: String = "GET") async throws -> Answer {
        var request = URLRequest(url: URL(string: "http://127.0.0.1:\(port)\(path)")!)
        request.httpMethod = method
        let (data, response) = try await URLSession.shared.data(for: request)
        return Answer((response as? HTTPURLResponse)?.statusCode ?? 0, String(decoding: data, as: UTF8.self))
    }

    private func configuration() throws -> ProxyConfiguration {
        var configuration = try ProxyConfiguration(
            environment: ["NODE_NAME": "n1", "IPV6_ENABLED": "false", "CONNECTION_TERMINATION_DEADLINE": "7s"])
        (configuration.readinessPort, configuration.statsPort, configuration.adminPort) = (0, 0, 0)
        // Any free port, without the mark that only root may set.
        configuration.dns?.port = 0
        configuration.dns?.mark = 0
        return configuration
    }

    @Test("starts in order, becomes ready, shows everything, and drains")
    func life() async throws {
        let tunnel = ScriptedTunnel()
        let sinks = Handed<any MeshStateSink>()
        let enrolments = Handed<PodEnrolment>()
        let observers = Handed<any ConnectionObserver>()
        let ports = Handed<ProxyProcess.BoundPorts>()
        let memory = Memory()
        let process = ProxyProcess(
            configuration: try self.configuration(), log: MeshLog(destination: memory),
            surroundings: ProxyProcess.Surroundings(
                followMesh: { sinks.give($0) }, signer: NoSigner(), obeyAgent: { enrolments.give($0) },
                makeTunnel: { _, _, observer, _ in
                    observers.give(observer)
                    return tunnel
                }),
            shutdown: ShutdownSignal(), version: "1.2.3", certificatesLimit: .zero, bound: { ports.give($0) })
        let running = Task { try await process.run() }
        let bound = await ports.take()

        // Before the mesh is known: not ready, no tunnel, the agent sees nobody.
        #expect(
            try await self.get(bound.readiness, "/healthz/ready")
                == Answer(500, "not ready, pending: state manager, workload proxy manager\n"))
        let sink = await sinks.take()
        await sink.apply(.addresses(upserted: [.workload(workload("client", "10.1.0.1"))], removed: []))
        await sink.apply(.policies(upserted: [denyAll(.namespace)], removed: []))
        await sink.synced()

        let enrolment = await enrolments.take()
        let observer = await observers.take()
        #expect(
            try await self.get(bound.readiness, "/healthz/ready")
                == Answer(500, "not ready, pending: workload proxy manager\n"))
        await enrolment.connected()
        #expect(await enrolment.add(pod("client"), in: Namespace()) == nil)
        await enrolment.snapshotSent()
        #expect(try await self.get(bound.readiness, "/healthz/ready") == Answer(200, "ready\n"))
        #expect(tunnel.events == ["serve client"])
        let views = tunnel.views
        await sink.apply(.addresses(upserted: [.service(service("web", "10.2.0.1"))], removed: []))
        #expect(tunnel.views == views + 1)

        observer.opened(
            ConnectionRecord(
                id: 1, direction: .outbound, transport: .hbone, pod: pod("client"), source: IPEndpoint("10.1.0.1:4")!,
                originalDestination: IPEndpoint("10.2.0.1:80")!, destination: IPEndpoint("10.1.0.2:15008")!,
                authority: nil, peerIdentity: nil, labels: nil, openedAtNanoseconds: 0))
        let dump = try await self.get(bound.admin, "/config_dump").text
        let root = try #require(try JSONSerialization.jsonObject(with: Data(dump.utf8)) as? [String: Any])
        #expect(
            Set(root.keys) == [
                "workloads", "services", "policies", "stagedServices", "staticConfig", "version", "config",
                "certificates", "workloadState",
            ])
        let listed = try #require((root["workloads"] as? [[String: Any]])?.first)
        #expect(listed["uid"] as? String == "cluster//Pod/ns1/client")
        #expect(listed["workloadIps"] as? [String] == ["10.1.0.1"])
        #expect(listed["protocol"] as? String == "HBONE")
        #expect(listed["status"] as? String == "Healthy")
        #expect((root["services"] as? [[String: Any]])?.first?["vips"] as? [String] == ["/10.2.0.1"])
        #expect((root["policies"] as? [[String: Any]])?.first?["action"] as? String == "Deny")
        let state = try #require((root["workloadState"] as? [String: Any])?["uid-client"] as? [String: Any])
        #expect(state["state"] as? String == "Up")
        #expect((state["info"] as? [String: String])?["serviceAccount"] == "client")
        let connection = ((state["connections"] as? [String: Any])?["outbound"] as? [[String: String]])?.first
        #expect(
            connection == [
                "src": "10.1.0.1:4", "originalDst": "10.2.0.1:80", "actualDst": "10.1.0.2:15008", "protocol": "HBONE",
            ])
        #expect(
            (root["certificates"] as? [[String: Any]])?.first?["identity"] as? String
                == "spiffe://cluster.local/ns/ns1/sa/client")

        #expect(try await self.get(bound.metrics, "/metrics").text.contains("# TYPE istio_build gauge\n"))
        #expect(
            try await self.get(bound.metrics, "/stats/prometheus").text.contains(
                "istio_build{component=\"ztunnel\",tag=\"1.2.3\"} 1"))
        #expect(try await self.get(bound.admin, "/").status == 200)
        #expect(
            try await self.get(bound.admin, "/logging?level=debug", method: "POST").text
                == "current log level is debug\n")
        #expect(try await self.get(bound.admin, "/quitquitquit").status == 405)
        #expect(try await self.get(bound.admin, "/quitquitquit", method: "POST").text == "shutdown now\n")
        try await running.value
        #expect(tunnel.events == ["serve client", "drain 7.0 seconds"])
        #expect(memory.lines.last?.hasSuffix("node proxy ended") == true)
    }

    @Test("W4: POST to /quitquitquit ends the process")
    func quit() async throws {
        let ports = Handed<ProxyProcess.BoundPorts>()
        let process = ProxyProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()),
            surroundings: ProxyProcess.Surroundings(
                followMesh: { _ in }, signer: NoSigner(), obeyAgent: { _ in },
                makeTunnel: { _, _, _, _ in ScriptedTunnel() }),
            shutdown: ShutdownSignal(), version: "0", bound: { ports.give($0) })
        async let ended: Void = process.run()
        let bound = await ports.take()
        #expect(try await self.get(bound.admin, "/quitquitquit", method: "POST").text == "shutdown now\n")
        try await ended
    }

    @Test("a pod that is deleted while the proxy drains is let go")
    func deletedWhileDraining() async throws {
        let tunnel = ScriptedTunnel()
        let enrolments = Handed<PodEnrolment>()
        let shutdown = ShutdownSignal()
        let process = ProxyProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()),
            surroundings: ProxyProcess.Surroundings(
                followMesh: { await $0.synced() }, signer: NoSigner(), obeyAgent: { enrolments.give($0) },
                makeTunnel: { _, _, _, _ in tunnel }),
            shutdown: shutdown, version: "0", certificatesLimit: .zero)
        async let ended: Void = process.run()
        let enrolment = await enrolments.take()
        await enrolment.connected()
        #expect(await enrolment.add(pod("client"), in: Namespace()) == nil)
        await enrolment.snapshotSent()
        tunnel.drains { await enrolment.delete(uid: pod("client").uid) }
        shutdown.request("SIGTERM")
        try await ended
        #expect(tunnel.events == ["serve client", "drain 7.0 seconds", "remove uid-client"])
    }

    @Test("ends also before the mesh was ever known")
    func endsEarly() async throws {
        let ports = Handed<ProxyProcess.BoundPorts>()
        let shutdown = ShutdownSignal()
        let process = ProxyProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()),
            surroundings: ProxyProcess.Surroundings(
                followMesh: { _ in }, signer: NoSigner(), obeyAgent: { _ in Issue.record("nobody to obey yet") },
                makeTunnel: { _, _, _, _ in
                    Issue.record("no tunnel before the mesh is known")
                    return ScriptedTunnel()
                }),
            shutdown: shutdown, version: "0", bound: { ports.give($0) })
        async let ended: Void = process.run()
        _ = await ports.take()
        shutdown.request("SIGTERM")
        try await ended
    }

    @Test("a tunnel that cannot be made ends the process with the reason")
    func noTunnel() async throws {
        struct NoTunnel: Error {}
        let ports = Handed<ProxyProcess.BoundPorts>()
        let process = ProxyProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()),
            surroundings: ProxyProcess.Surroundings(
                followMesh: { await $0.synced() }, signer: NoSigner(),
                obeyAgent: { _ in Issue.record("nobody to obey without a tunnel") },
                makeTunnel: { _, _, _, _ in throw NoTunnel() }),
            shutdown: ShutdownSignal(), version: "0", bound: { ports.give($0) })
        await #expect(throws: NoTunnel.self) { try await process.run() }
        // Everything is closed behind it.
        let bound = await ports.take()
        await #expect(throws: (any Error).self) { try await self.get(bound.readiness, "/healthz/ready") }
    }

    @Test("W1: a port that is taken is an error at start")
    func taken() async throws {
        let ports = Handed<ProxyProcess.BoundPorts>()
        let shutdown = ShutdownSignal()
        let surroundings = ProxyProcess.Surroundings(
            followMesh: { _ in }, signer: NoSigner(), obeyAgent: { _ in },
            makeTunnel: { _, _, _, _ in ScriptedTunnel() })
        let first = ProxyProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()), surroundings: surroundings,
            shutdown: shutdown, version: "0", bound: { ports.give($0) })
        async let ended: Void = first.run()
        let bound = await ports.take()
        for keyPath in [\ProxyConfiguration.readinessPort, \.adminPort, \.statsPort]
            as [WritableKeyPath<ProxyConfiguration, Int> & Sendable]
        {
            var configuration = try self.configuration()
            configuration[keyPath: keyPath] = bound.readiness
            let second = ProxyProcess(
                configuration: configuration, log: MeshLog(destination: Memory()), surroundings: surroundings,
                shutdown: ShutdownSignal(), version: "0")
            await #expect(throws: EndpointBindError.self) { try await second.run() }
        }
        shutdown.request("test is over")
        try await ended
    }
}
