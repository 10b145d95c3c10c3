package import Logging
package import MeshLinux
package import MeshTelemetry
package import MeshTunnel
package import MeshZDS

/// A pod's network namespace as the enrolment sees it.
package protocol PodNamespace: Sendable {
    /// Equal for two descriptors of one namespace.
    var key: String { get }
    /// The descriptor, borrowed for the call.
    func withDescriptor(_ body: (CInt) throws -> Void) rethrows
}

extension SharedNetworkNamespace: PodNamespace {
    package var key: String { "\(self.identity.device):\(self.identity.inode)" }

    package func withDescriptor(_ body: (CInt) throws -> Void) rethrows { try self.namespace.withDescriptor(body) }
}

/// Who serves pods: the tunnel engine.
package protocol PodServer: Sendable {
    /// Returns once the pod's ports are bound.
    func start(_ pod: EnrolledPod, _ namespace: any PodNamespace) throws
    /// Stops at once.
    /// - Parameter whenDone: called once, on any thread, when the pod's peers have been told and its network may go.
    func stop(uid: String, whenDone: @escaping @Sendable () -> Void)
}

/// Which pods this node proxy serves, by order of the node agent.
///
/// A pod whose ports cannot be bound is answered with the reason, kept pending and tried again. It holds back only the
/// first readiness of the process, and that for a few tries: a predecessor that still serves the pod is not to go while
/// another try may help, but one pod's trouble must never become the trouble of all the others. (The reference is not
/// ready while any pod is pending.)
package actor PodEnrolment: ZDSHandler {
    /// A line of the dump.
    package struct Listed: Hashable, Sendable {
        package let pod: EnrolledPod
        package let isUp: Bool
        package let trustDomain: String
    }

    private struct Member {
        var pod: EnrolledPod
        var namespace: any PodNamespace
    }

    package static let retryInterval = Duration.seconds(5)
    /// Rounds of tries for which pending pods hold back the first readiness.
    package static let holdingTriesMax = 2
    /// How long a removed pod's network is held back until its peers have been told. Those that answer do so within a
    /// round trip; the node agent waits 5 s for us.
    package static let farewellLimit = Duration.seconds(2)
    /// A node has about 250 pods; more than this is an agent gone mad.
    static let podsMax = 10_000
    /// The name in the readiness answer.
    package static let readinessTask = "workload proxy manager"

    private let server: any PodServer
    private let readiness: Readiness
    private let log: Logger
    private let trustDomain: @Sendable (EnrolledPod) -> String?
    private let farewellLimit: Duration
    private let active, pendingCount: Gauge
    private let started, stopped: Counter

    private var serving: [String: Member] = [:]
    private var pending: [String: Member] = [:]
    /// Pods named since the connection began.
    private var named: Set<String> = []
    private var isConnected = false
    private var isSnapshotDone = false
    /// Pending pods hold nothing back any more.
    private var isLaunched = false
    private var tries = 0
    private var isShuttingDown = false

    /// - Parameter trustDomain: of a pod, for dumps.
    package init(
        server: any PodServer, readiness: Readiness, registry: MetricsRegistry, log: Logger,
        farewellLimit: Duration = PodEnrolment.farewellLimit,
        trustDomain: @escaping @Sendable (EnrolledPod) -> String? = { _ in nil }
    ) {
        self.server = server
        self.readiness = readiness
        self.log = log
        self.trustDomain = trustDomain
        self.farewellLimit = farewellLimit
        self.active = registry.gauge(
            "workload_manager_active_proxy_count", "The total number current workloads with active proxies (unstable)"
        ).with()
        self.pendingCount = registry.gauge(
            "workload_manager_pending_proxy_count", "The total number current workloads with pending proxies (unstable)"
        ).with()
        self.started = registry.counter(
            "workload_manager_proxies_started_total", "The total number of proxies that were started (unstable)"
        ).with()
        self.stopped = registry.counter(
            "workload_manager_proxies_stopped_total", "The total number of proxies that were stopped (unstable)"
        ).with()
    }

    // MARK: Orders of the node agent

    package func connected() {
        self.isConnected = true
        self.isSnapshotDone = false
        self.named = []
        // The agent sends them again.
        self.pending = [:]
        self.update()
    }

    package func disconnected() {
        self.isConnected = false
        self.update()
    }

    package func wantsConnection() -> Bool { !self.isShuttingDown }

    /// The process ends. Pods are still released when the agent says so, none is taken, and a connection that breaks is
    /// not made again: the successor has its own.
    package func shutDown() {
        self.isShuttingDown = true
        self.pending = [:]
        self.update()
    }

    package func add(_ pod: ZDSPod, namespace: consuming NetworkNamespace) -> String? {
        let shared: SharedNetworkNamespace
        do throws(SystemError) {
            shared = try SharedNetworkNamespace(namespace)
        } catch {
            return "failure to start proxy : \(error)"
        }
        return self.add(
            EnrolledPod(uid: pod.uid, name: pod.name, namespace: pod.namespace, serviceAccount: pod.serviceAccount),
            in: shared)
    }

    package func add(_ pod: EnrolledPod, in namespace: any PodNamespace) -> String? {
        guard !self.isShuttingDown else { return "failure to start proxy : this node proxy is shutting down" }
        defer { self.update() }
        if !self.isSnapshotDone { self.named.insert(pod.uid) }
        if let served = self.serving[pod.uid] {
            if served.namespace.key == namespace.key {
                self.pending[pod.uid] = nil
                return nil
            }
            // The sandbox was made anew: what listens in the old one is of no use.
            self.stop(pod.uid)
        }
        guard self.serving.count + self.pending.count < Self.podsMax else {
            return "failure to start proxy : \(Self.podsMax) pods are served already"
        }
        return self.start(Member(pod: pod, namespace: namespace))
    }

    package func keep(uid: String) { self.named.insert(uid) }

    /// Returns when the pod's peers have been told, so that its network stays for as long: the agent lets go of it when
    /// it has our answer, and peers whose packets then lead nowhere would wait for a PING to fail.
    package func delete(uid: String) async {
        self.pending[uid] = nil
        if self.isSnapshotDone {
            let (told, continuation) = AsyncStream.makeStream(of: Bool.self)
            let member = self.serving[uid]
            self.stop(uid) { continuation.yield(true) }
            self.update()
            if let member { await self.waitUntilTold(of: member.pod, told, continuation) }
        } else {
            // A pod that runs is left to the comparison with the whole snapshot.
            self.named.remove(uid)
            self.update()
        }
    }

    private func waitUntilTold(
        of pod: EnrolledPod, _ told: AsyncStream<Bool>, _ continuation: AsyncStream<Bool>.Continuation
    ) async {
        let limit = Task { [farewellLimit] in
            try await Task.sleep(for: farewellLimit)
            continuation.yield(false)
        }
        defer { limit.cancel() }
        for await wasTold in told {
            if !wasTold {
                self.log.warning(
                    "not all peers of a released pod took the farewell in time",
                    metadata: ["pod": "\(pod.namespace)/\(pod.name)", "limit": "\(self.farewellLimit)"])
            }
            return
        }
    }

    package func snapshotSent() {
        self.isSnapshotDone = true
        for uid in self.serving.keys where !self.named.contains(uid) { self.stop(uid) }
        self.named = []
        self.update()
    }

    // MARK: Starting and stopping

    private func start(_ member: Member) -> String? {
        let uid = member.pod.uid
        do {
            try self.server.start(member.pod, member.namespace)
        } catch {
            self.log.warning(
                "cannot serve a pod; trying again every \(Self.retryInterval)",
                metadata: ["pod": "\(member.pod.namespace)/\(member.pod.name)", "error": "\(error)"])
            self.pending[uid] = member
            return "failure to start proxy : \(error)"
        }
        self.pending[uid] = nil
        self.serving[uid] = member
        self.started.add()
        self.log.info("pod enrolled", metadata: ["pod": "\(member.pod.namespace)/\(member.pod.name)", "uid": "\(uid)"])
        return nil
    }

    private func stop(_ uid: String, whenDone: @escaping @Sendable () -> Void = {}) {
        guard let member = self.serving.removeValue(forKey: uid) else { return }
        self.server.stop(uid: uid, whenDone: whenDone)
        self.stopped.add()
        self.log.info(
            "pod released", metadata: ["pod": "\(member.pod.namespace)/\(member.pod.name)", "uid": "\(uid)"])
    }

    /// Tries every pending pod again.
    package func retryPending() {
        if self.isSnapshotDone, !self.pending.isEmpty { self.tries += 1 }
        for (uid, member) in self.pending {
            if self.serving[uid] != nil {
                self.pending[uid] = nil
            } else {
                _ = self.start(member)
            }
        }
        self.update()
    }

    /// Tries pending pods again and again, until the task is cancelled.
    package func retryForever() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.retryInterval)
            if !Task.isCancelled { self.retryPending() }
        }
    }

    private func update() {
        self.active.set(Int64(self.serving.count))
        self.pendingCount.set(Int64(self.pending.count))
        if self.isSnapshotDone, self.pending.isEmpty || self.tries >= Self.holdingTriesMax { self.isLaunched = true }
        self.readiness.set(Self.readinessTask, isDone: self.isConnected && self.isSnapshotDone && self.isLaunched)
    }

    package var pods: [Listed] {
        let up = self.serving.values.map { (pod: $0.pod, isUp: true) }
        let waiting = self.pending.values.map { (pod: $0.pod, isUp: false) }
        return (up + waiting).sorted { $0.pod.uid < $1.pod.uid }
            .map { Listed(pod: $0.pod, isUp: $0.isUp, trustDomain: self.trustDomain($0.pod) ?? "") }
    }
}
