import MeshProxy
import MeshTelemetry
import MeshTunnel
import Synchronization
import Testing

private struct Namespace: PodNamespace {
    let key: String
    func withDescriptor(_ body: (CInt) throws -> Void) rethrows { try body(-1) }
}

/// Starts pods, unless it is told not to; notes everything.
private final class ScriptedServer: PodServer {
    struct Busy: Error, CustomStringConvertible { let description = "port 15008 is taken" }
    private struct State {
        var busy = false
        var events: [String] = []
        var keepsQuiet = false
        var told: (@Sendable () -> Void)?
    }
    private let state = Mutex(State())

    func start(_ pod: EnrolledPod, _ namespace: any PodNamespace) throws {
        try self.state.withLock { state in
            if state.busy { throw Busy() }
            state.events.append("start \(pod.name) in \(namespace.key)")
        }
    }
    func stop(uid: String, whenDone: @escaping @Sendable () -> Void) {
        self.state.withLock { state in
            state.events.append("stop \(uid)")
            if state.keepsQuiet { return state.told = whenDone }
            whenDone()
        }
    }

    /// From now on the peers of pods hear nothing, until ``tell()``.
    func keepQuiet() { self.state.withLock { $0.keepsQuiet = true } }
    func tell() { self.state.withLock { $0.told }?() }
    func setBusy(_ busy: Bool) { self.state.withLock { $0.busy = busy } }
    var events: [String] { self.state.withLock { $0.events } }
}

@Suite("Pod enrolment")
struct EnrolmentTests {
    private let server = ScriptedServer()
    private let readiness = Readiness(pending: [PodEnrolment.readinessTask])
    private let registry = MetricsRegistry()
    private let enrolment: PodEnrolment

    private struct Nowhere: LogDestination { func write(_ bytes: [UInt8]) {} }

    init() {
        self.enrolment = PodEnrolment(
            server: self.server, readiness: self.readiness, registry: self.registry,
            log: MeshLog(destination: Nowhere()).logger("zds"), farewellLimit: .seconds(3600),
            trustDomain: { _ in "td" })
    }

    private func add(_ name: String = "a", in namespace: String = "net1") async -> String? {
        await self.enrolment.add(pod(name), in: Namespace(key: namespace))
    }

    private var states: [String: Bool] {
        get async { Dictionary(uniqueKeysWithValues: await self.enrolment.pods.map { ($0.pod.name, $0.isUp) }) }
    }

    @Test("Z2: the same order twice starts one")
    func idempotent() async {
        await self.enrolment.connected()
        #expect(await self.add() == nil)
        #expect(await self.add() == nil)
        #expect(self.server.events == ["start a in net1"])
    }

    @Test("Z3: a pod that cannot be served is refused, kept pending, and served when it can be")
    func pending() async {
        await self.enrolment.connected()
        self.server.setBusy(true)
        #expect(await self.add() == "failure to start proxy : port 15008 is taken")
        await self.enrolment.snapshotSent()
        #expect(await self.states == ["a": false])
        // A predecessor that serves it is not to go yet.
        #expect(!self.readiness.isReady)
        await self.enrolment.retryPending()
        #expect(await self.states == ["a": false])
        self.server.setBusy(false)
        await self.enrolment.retryPending()
        #expect(await self.states == ["a": true])
        #expect(self.readiness.isReady)
        await self.enrolment.retryPending()
        #expect(self.server.events == ["start a in net1"])
    }

    @Test("a pod that cannot be served holds back the first readiness for a few tries, and later ones not at all")
    func oneInTrouble() async {
        await self.enrolment.connected()
        self.server.setBusy(true)
        _ = await self.add("a")
        await self.enrolment.snapshotSent()
        for _ in 0..<PodEnrolment.holdingTriesMax {
            #expect(!self.readiness.isReady)
            await self.enrolment.retryPending()
        }
        #expect(self.readiness.isReady)
        #expect(await self.states == ["a": false])
        _ = await self.add("b")
        #expect(self.readiness.isReady)
        // Another agent: ready again as soon as its snapshot is there.
        await self.enrolment.disconnected()
        #expect(!self.readiness.isReady)
        await self.enrolment.connected()
        _ = await self.add("b")
        await self.enrolment.snapshotSent()
        #expect(self.readiness.isReady)
    }

    @Test("a proxy that ends takes no pod, releases those it is told to, and does not connect again")
    func ending() async {
        await self.enrolment.connected()
        _ = await self.add("a")
        await self.enrolment.snapshotSent()
        #expect(await self.enrolment.wantsConnection())
        await self.enrolment.shutDown()
        #expect(await self.add("b") == "failure to start proxy : this node proxy is shutting down")
        await self.enrolment.delete(uid: pod("a").uid)
        #expect(self.server.events == ["start a in net1", "stop uid-a"])
        #expect(await !self.enrolment.wantsConnection())
    }

    @Test("Z4: a pod that failed and then came with another namespace runs there")
    func failedThenElsewhere() async {
        await self.enrolment.connected()
        self.server.setBusy(true)
        _ = await self.add(in: "net1")
        self.server.setBusy(false)
        #expect(await self.add(in: "net2") == nil)
        await self.enrolment.retryPending()
        #expect(self.server.events == ["start a in net2"])
        #expect(await self.states == ["a": true])
    }

    @Test("Z5, Z6: a pending pod that is deleted is gone, before the snapshot as after", arguments: [true, false])
    func deletedPending(afterSnapshot: Bool) async {
        await self.enrolment.connected()
        if afterSnapshot { await self.enrolment.snapshotSent() }
        self.server.setBusy(true)
        _ = await self.add()
        await self.enrolment.delete(uid: pod("a").uid)
        if !afterSnapshot { await self.enrolment.snapshotSent() }
        self.server.setBusy(false)
        await self.enrolment.retryPending()
        #expect(await self.states.isEmpty)
        #expect(self.server.events == [])
        #expect(self.readiness.isReady)
    }

    @Test("Z7: added, deleted and added is there once")
    func again() async {
        await self.enrolment.connected()
        _ = await self.add()
        await self.enrolment.delete(uid: pod("a").uid)
        _ = await self.add()
        await self.enrolment.snapshotSent()
        #expect(await self.states == ["a": true])
        await self.enrolment.delete(uid: pod("a").uid)
        await self.enrolment.delete(uid: "nobody")
        _ = await self.add()
        #expect(self.server.events == ["start a in net1", "stop uid-a", "start a in net1"])
    }

    @Test("Z8, Z9: after a reconnect whoever was kept stays, whoever was not named is stopped")
    func reconnect() async {
        await self.enrolment.connected()
        _ = await self.add("a")
        _ = await self.add("b")
        await self.enrolment.snapshotSent()
        await self.enrolment.disconnected()
        #expect(!self.readiness.isReady)
        #expect(await self.states == ["a": true, "b": true])
        await self.enrolment.connected()
        #expect(!self.readiness.isReady)
        await self.enrolment.keep(uid: pod("a").uid)
        await self.enrolment.snapshotSent()
        #expect(await self.states == ["a": true])
        #expect(self.server.events.last == "stop uid-b")
        #expect(self.readiness.isReady)
    }

    @Test("Z10: a pod with a new namespace is served there and no longer in the old one")
    func newNamespace() async {
        await self.enrolment.connected()
        _ = await self.add(in: "net1")
        _ = await self.add(in: "net2")
        #expect(self.server.events == ["start a in net1", "stop uid-a", "start a in net2"])
    }

    @Test("a removal is acknowledged when the pod's peers have been told, and not before")
    func farewell() async throws {
        await self.enrolment.connected()
        _ = await self.add()
        await self.enrolment.snapshotSent()
        self.server.keepQuiet()
        final class Agent: Sendable {
            private let answered = Mutex(false)
            var isAnswered: Bool { self.answered.withLock { $0 } }
            func answer() { self.answered.withLock { $0 = true } }
        }
        let agent = Agent()
        let enrolment = self.enrolment
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                await enrolment.delete(uid: pod("a").uid)
                agent.answer()
            }
            while !self.server.events.contains("stop uid-a") { try await Task.sleep(for: .milliseconds(1)) }
            // It is released at once, and the enrolment can be asked and does other things meanwhile.
            #expect(await self.states.isEmpty)
            #expect(self.registry.openMetrics().contains("\nworkload_manager_active_proxy_count 0\n"))
            #expect(!agent.isAnswered)
            self.server.tell()
            try await group.waitForAll()
        }
        #expect(agent.isAnswered)
    }

    @Test("peers that take no farewell hold a removal back for a while only")
    func farewellLimit() async {
        let memory = Memory()
        let log = MeshLog(destination: memory)
        let enrolment = PodEnrolment(
            server: self.server, readiness: self.readiness, registry: MetricsRegistry(), log: log.logger("zds"),
            farewellLimit: .milliseconds(5))
        await enrolment.connected()
        _ = await enrolment.add(pod("a"), in: Namespace(key: "net1"))
        await enrolment.snapshotSent()
        self.server.keepQuiet()
        await enrolment.delete(uid: pod("a").uid)
        #expect(await enrolment.pods.isEmpty)
        await log.flush()
        #expect(memory.lines.contains { $0.contains("not all peers of a released pod took the farewell") })
        // Whoever answers later harms nobody.
        self.server.tell()
    }

    @Test("counts what it does")
    func metrics() async {
        await self.enrolment.connected()
        _ = await self.add("a")
        _ = await self.add("b")
        self.server.setBusy(true)
        _ = await self.add("c")
        await self.enrolment.snapshotSent()
        await self.enrolment.delete(uid: pod("a").uid)
        let text = self.registry.openMetrics()
        #expect(text.contains("\nworkload_manager_active_proxy_count 1\n"))
        #expect(text.contains("\nworkload_manager_pending_proxy_count 1\n"))
        #expect(text.contains("\nworkload_manager_proxies_started_total 2\n"))
        #expect(text.contains("\nworkload_manager_proxies_stopped_total 1\n"))
    }
}
