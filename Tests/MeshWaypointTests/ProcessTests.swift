import Foundation
import FoundationNetworking
import Logging
import MeshCA
import MeshCertificates
import MeshDirectory
import MeshExchange
import MeshIdentity
import MeshModel
import MeshProcess
import MeshRoutes
import MeshTelemetry
import MeshTestSupport
import MeshTunnel
import MeshWaypoint
import MeshXDS
import Synchronization
import Testing

/// Notes what it is told.
private final class ScriptedEngine: WaypointEngine {
    private let state = Mutex<(events: [String], snapshots: [WaypointSnapshot])>(([], []))
    func publish(_ snapshot: WaypointSnapshot) { self.state.withLock { $0.snapshots.append(snapshot) } }
    func publish(_ revocation: Revocation) {}
    func certificateRenewed(_ identity: WorkloadIdentity) {}
    func listen(as pod: EnrolledPod) throws { self.state.withLock { $0.events.append("listen \(pod.name)") } }
    func drain(deadline: Duration) async { self.state.withLock { $0.events.append("drain \(deadline)") } }
    var events: [String] { self.state.withLock { $0.events } }
    var snapshots: [WaypointSnapshot] { self.state.withLock { $0.snapshots } }
}

/// Signs when it is allowed to.
private final class GatedSigner: CertificateSigner {
    private let ca: TestCA
    private let (gate, open) = AsyncStream.makeStream(of: Void.self)
    init() throws { self.ca = try TestCA() }
    func allow() { self.open.finish() }
    func sign(_ identity: WorkloadIdentity) async throws -> SignedCertificate {
        for await _ in self.gate {}
        try Task.checkCancellation()
        let leaf = try self.ca.issue(uris: [identity.description])
        let now = Timestamp.secondsNow()
        return SignedCertificate(
            chain: leaf.chain, privateKey: leaf.privateKey, roots: leaf.roots, notBefore: now,
            notAfter: now + 3600)
    }
}

/// Hands over one value to whoever waits for it.
private final class Handed<Value: Sendable>: Sendable {
    private let (stream, continuation) = AsyncStream.makeStream(of: Value.self)
    func give(_ value: Value) { self.continuation.yield(value) }
    func take() async -> Value {
        for await value in self.stream { return value }; fatalError("nothing was handed over")
    }
}

@Suite("The waypoint process", .timeLimit(.minutes(2)), .serialized)
struct ProcessTests {
    private struct Answer: Equatable {
        let status: Int
        let text: String
        init(_ status: Int, _ text: String) {
            self.status = status
            self.text = text
        }
    }

    private let gateway = NamespacedName(namespace: "shop", name: "waypoint")

    private func configuration() throws -> WaypointConfiguration {
        var configuration = try WaypointConfiguration(
            environment: ConfigurationTests.least.merging(
                ["POD_NAME": "waypoint-1", "IPV6_ENABLED": "false", "CONNECTION_TERMINATION_DEADLINE": "1s"]) { $1 })
        (configuration.readinessPort, configuration.statsPort, configuration.adminPort) = (0, 0, 0)
        return configuration
    }

    private func get(_ port: Int, _ path: String, method: String = "GET") async throws -> Answer {
        var request = URLRequest(url: URL(string: "http://127.0.0.1:\(port)\(path)")!)
        request.httpMethod = method
        let (data, response) = try await URLSession.shared.data(for: request)
        return Answer((response as? HTTPURLResponse)?.statusCode ?? 0, String(decoding: data, as: UTF8.self))
    }

    /// Until readiness says so.
    private func wait(_ port: Int, until text: String) async throws {
        while try await self.get(port, "/healthz/ready").text != text { await Task.yield() }
    }

    @Test("is ready when the mesh, its Gateway and its certificate are known and it listens; then it drains")
    func life() async throws {
        let engine = ScriptedEngine()
        let signer = try GatedSigner()
        let sinks = Handed<any WaypointSink>()
        let observers = Handed<any ExchangeObserver>()
        let ports = Handed<WaypointProcess.BoundPorts>()
        let memory = Memory()
        let process = WaypointProcess(
            configuration: try self.configuration(), log: MeshLog(destination: memory),
            surroundings: WaypointProcess.Surroundings(
                followMesh: { sinks.give($0) }, signer: signer,
                makeEngine: { _, _, _, exchanges in
                    observers.give(exchanges)
                    return engine
                }),
            shutdown: ShutdownSignal(), version: "1.2.3", bound: { ports.give($0) })
        let running = Task { try await process.run() }
        let bound = await ports.take()
        #expect(
            try await self.get(bound.readiness, "/healthz/ready")
                == Answer(500, "not ready, pending: certificate, gateway, listener, mesh\n"))
        let sink = await sinks.take()
        await sink.apply(.addresses(upserted: [.service(service())], removed: []))
        await sink.apply(.services(upserted: [ServiceRules(key: web)], removed: []))
        await sink.synced()
        try await self.wait(bound.readiness, until: "not ready, pending: certificate, gateway, listener\n")
        #expect(engine.events == [])
        signer.allow()
        try await self.wait(bound.readiness, until: "not ready, pending: gateway\n")
        #expect(engine.events == ["listen waypoint-1"])
        // The control plane forgot us, or does not know us yet: others serve, until it does.
        await sink.apply(.waypoint(WaypointRules(key: self.gateway)))
        #expect(try await self.get(bound.readiness, "/healthz/ready") == Answer(200, "ready\n"))
        #expect(engine.snapshots.last?.picture.waypoint?.key == self.gateway)
        await sink.apply(.waypoint(nil))
        #expect(try await self.get(bound.readiness, "/healthz/ready").status == 500)
        await sink.apply(.waypoint(WaypointRules(key: self.gateway)))

        (await observers.take()).finished(report())
        let metrics = try await self.get(bound.metrics, "/stats/prometheus").text
        #expect(metrics.contains("istio_build{component=\"waypoint\",tag=\"1.2.3\"} 1"))
        #expect(metrics.contains("istio_requests_total{reporter=\"waypoint\""))
        #expect(try await self.get(bound.metrics, "/metrics").text.contains("process_open_fds"))

        let dump = try await self.get(bound.admin, "/config_dump").text
        let root = try #require(try JSONSerialization.jsonObject(with: Data(dump.utf8)) as? [String: Any])
        #expect(
            Set(root.keys) == [
                "version", "config", "waypoint", "listeners", "routes", "clusters", "endpoints", "secrets",
            ])
        #expect((root["secrets"] as? [[String: Any]])?.first?["state"] as? String == "Available")
        let listeners = try #require(root["listeners"] as? [[String: Any]])
        #expect(listeners.compactMap { $0["service"] as? String } == [web.description])
        let part = try await self.get(bound.admin, "/config_dump?view=clusters").text
        #expect(part.hasPrefix("{\"clusters\":[{\"name\":\"inbound-vip|80|http|web.shop.svc.cluster.local\""))
        #expect(try await self.get(bound.admin, "/config_dump?view=nonsense").status == 400)
        #expect(try await self.get(bound.admin, "/healthz/ready").status == 200)
        #expect(
            try await self.get(bound.admin, "/logging?level=debug", method: "POST").text
                == "current log level is debug\n")
        #expect(try await self.get(bound.admin, "/quitquitquit", method: "POST").text == "shutdown now\n")
        try await running.value
        #expect(engine.events == ["listen waypoint-1", "drain 0.8 seconds"])
        #expect(memory.text.contains("waypoint ended"))
        #expect(memory.text.contains("\"GET /cart?id=1 HTTP/1.1\" 200 - via_upstream"))
    }

    @Test("ends also before the mesh and its certificate were ever known")
    func endsEarly() async throws {
        let ports = Handed<WaypointProcess.BoundPorts>()
        let shutdown = ShutdownSignal()
        let process = WaypointProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()),
            surroundings: WaypointProcess.Surroundings(
                followMesh: { _ in }, signer: try GatedSigner(),
                makeEngine: { _, _, _, _ in
                    Issue.record("no engine before the mesh is known")
                    return ScriptedEngine()
                }),
            shutdown: shutdown, version: "0", bound: { ports.give($0) })
        async let ended: Void = process.run()
        _ = await ports.take()
        shutdown.request("SIGTERM")
        try await ended
    }

    @Test("an engine that cannot be made ends the process with the reason")
    func noEngine() async throws {
        struct NoEngine: Error {}
        let signer = try GatedSigner()
        signer.allow()
        let process = WaypointProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()),
            surroundings: WaypointProcess.Surroundings(
                followMesh: { await $0.synced() }, signer: signer, makeEngine: { _, _, _, _ in throw NoEngine() }),
            shutdown: ShutdownSignal(), version: "0")
        await #expect(throws: NoEngine.self) { try await process.run() }
    }

    @Test("a port that is taken is an error at start")
    func taken() async throws {
        let ports = Handed<WaypointProcess.BoundPorts>()
        let shutdown = ShutdownSignal()
        let surroundings = WaypointProcess.Surroundings(
            followMesh: { _ in }, signer: try GatedSigner(), makeEngine: { _, _, _, _ in ScriptedEngine() })
        let first = WaypointProcess(
            configuration: try self.configuration(), log: MeshLog(destination: Memory()), surroundings: surroundings,
            shutdown: shutdown, version: "0", bound: { ports.give($0) })
        async let ended: Void = first.run()
        let bound = await ports.take()
        var configuration = try self.configuration()
        configuration.statsPort = bound.readiness
        let second = WaypointProcess(
            configuration: configuration, log: MeshLog(destination: Memory()), surroundings: surroundings,
            shutdown: ShutdownSignal(), version: "0")
        await #expect(throws: EndpointBindError.self) { try await second.run() }
        shutdown.request("test is over")
        try await ended
    }
}
