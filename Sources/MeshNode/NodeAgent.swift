internal import KubeAPI
package import KubeClient
package import Logging
internal import MeshCNI
internal import MeshLinux
internal import MeshModel
internal import MeshZDS

/// The node agent: knows the pods of its node, decides which are captured, and drives each one's ``PodEnrolment``.
///
/// An actor, because everything here is slow coordination; each pod has at most one step under way, and after every step
/// its state is looked at anew.
package actor NodeAgent {
    struct Pod {
        var object: KubeObject
        var enrolment: PodEnrolment
        var rules: PodRules
        var namespace: SharedNetworkNamespace?
        /// A task performs its steps right now.
        var isWorking = false
        /// Interrupts the wait after a failure.
        var retry: Task<Void, Never>?
        /// Plugin requests that wait for the pod to be captured; answered with nil or the reason why not.
        var waiting: [Int: CheckedContinuation<String?, Never>] = [:]
        var drainStarted: ContinuousClock.Instant?
        /// Its rules are a predecessor's, and are to be left as they are.
        var keepsPredecessorsRules = false
        var isPendingSince: ContinuousClock.Instant? = .now
        var lastTrouble = "nothing has failed yet"
    }

    enum Owner: Sendable { case present, leaving }

    let configuration: NodeAgentConfiguration
    let kube: any KubeCluster
    let log: Logger
    let metrics: NodeMetrics
    let network: PodNetwork
    let probes: HostProbes
    let finder: NamespaceFinder
    let zds: ZDSServer

    /// Every pod of the node, by UID.
    var objects: [String: KubeObject] = [:]
    /// Labels of every namespace; nil until they were listed.
    var namespaceLabels: [String: [String: String]]?
    var isPodListComplete = false
    /// Namespaces of pods anywhere that ask for enrolment by their own labels, by pod UID.
    var optedIn: [String: String]?
    var pods: [String: Pod] = [:]
    /// Our own DaemonSet; nil until it was looked for.
    var owner: Owner?
    var isInstalled = false
    var isServing = false
    /// Set once, when the mesh leaves the node: everything goes out and nothing comes in.
    var isUninstalling = false
    var nextWaiter = 0
    var writtenRecord: EnrolmentRecord?

    /// Waits after failures: the first, doubled up to the last.
    static let retryMin = Duration.milliseconds(100)
    static let retryMax = Duration.seconds(15)
    /// An API server that is gone must not use up the time we have at the end.
    static let patchLimit = Duration.seconds(5)
    static let drainPoll = Duration.milliseconds(250)
    /// For the answer to the plugin, less than its own limit (``PluginRequest/Purpose/limit``).
    static let pluginLimit = Duration.seconds(25)

    package init(
        _ configuration: NodeAgentConfiguration, _ kube: any KubeCluster, _ log: Logger, metrics: NodeMetrics
    ) throws {
        self.configuration = configuration
        self.kube = kube
        self.log = log
        self.metrics = metrics
        self.network = PodNetwork(procRoot: configuration.hostProc, isIPv6Enabled: configuration.isIPv6Enabled)
        let host = try configuration.hostNamespacePath.map { path in
            try SharedNetworkNamespace(NetworkNamespace(path: path))
        }
        self.probes = HostProbes(probeSources: configuration.probeSources, namespace: host)
        let ours = try NetworkNamespace.identity(ofPath: "/proc/self/ns/net")
        self.finder = NamespaceFinder(procRoot: configuration.hostProc, host: host?.identity ?? ours)
        let (events, connected) = AsyncStream.makeStream(of: Int.self, bufferingPolicy: .bufferingNewest(1))
        self.proxyChanges = events
        self.zds = try ZDSServer(path: configuration.zdsSocket, log: log) { count in
            metrics.connectedProxies.set(Int64(count))
            connected.yield(count)
        }
    }

    let proxyChanges: AsyncStream<Int>

    // MARK: what is known

    func observe(_ event: InformerEvent) {
        switch event {
        case .snapshot(let all):
            let present = Set(all.map(\.uid))
            for uid in self.objects.keys where !present.contains(uid) { self.lose(uid) }
            for object in all { self.objects[object.uid] = object }
            self.isPodListComplete = true
            for object in all { self.reconsider(object.uid) }
        case .updated(let object):
            self.metrics.events.with([self.objects[object.uid] == nil ? "add" : "update"]).add()
            self.objects[object.uid] = object
            self.reconsider(object.uid)
        case .deleted(let object):
            self.metrics.events.with(["delete"]).add()
            self.lose(object.uid)
        }
    }

    func observeNamespace(_ event: InformerEvent) {
        var labels = self.namespaceLabels ?? [:]
        let before = labels
        switch event {
        case .snapshot(let all): labels = Dictionary(all.map { ($0.name, $0.labels) }, uniquingKeysWith: { $1 })
        case .updated(let object): labels[object.name] = object.labels
        case .deleted(let object): labels[object.name] = nil
        }
        let isFirst = self.namespaceLabels == nil
        self.namespaceLabels = labels
        for (uid, object) in self.objects where isFirst || labels[object.namespace] != before[object.namespace] {
            self.reconsider(uid)
        }
    }

    func observeOptedIn(_ event: InformerEvent) {
        var optedIn = self.optedIn ?? [:]
        switch event {
        case .snapshot(let all): optedIn = Dictionary(all.map { ($0.uid, $0.namespace) }, uniquingKeysWith: { $1 })
        case .updated(let object): optedIn[object.uid] = object.namespace
        case .deleted(let object): optedIn[object.uid] = nil
        }
        self.optedIn = optedIn
    }

    /// Seen while it can be seen: when the mesh is removed, our permission to ask may go before we do.
    func observeOwner(_ event: InformerEvent) {
        let name = self.configuration.daemonSetName
        switch event {
        case .snapshot(let all):
            let found = all.first { $0.name == name }
            self.owner = found.map { $0.isBeingDeleted ? .leaving : .present } ?? .leaving
        case .updated(let object) where object.name == name:
            self.owner = object.isBeingDeleted ? .leaving : .present
        case .deleted(let object) where object.name == name: self.owner = .leaving
        case .updated, .deleted: break
        }
    }

    var isSynced: Bool { self.isPodListComplete && self.namespaceLabels != nil }

    private func lose(_ uid: String) {
        self.objects[uid] = nil
        guard self.pods[uid] != nil else { return }
        self.pods[uid]?.enrolment.want(.gone(objectRemains: false))
        self.work(uid)
    }

    // MARK: deciding

    static func isTerminal(_ object: KubeObject) -> Bool {
        let phase = object.status["phase"]?.string
        return phase == "Succeeded" || phase == "Failed"
    }

    static func addresses(_ object: KubeObject) -> Set<IPAddress> {
        let listed = (object.status["podIPs"]?.array ?? []).compactMap { $0["ip"]?.string }
        return Set((listed + [object.status["podIP"]?.string].compactMap(\.self)).compactMap { IPAddress($0) })
    }

    /// Compares one pod with what it should be; called whenever something about it may have changed.
    func reconsider(_ uid: String) {
        guard self.isSynced, let object = self.objects[uid],
            let labels = self.namespaceLabels?[object.namespace]
        else { return }
        var goal = PodEnrolment.Goal.out
        if Self.isTerminal(object) {
            goal = .gone(objectRemains: true)
        } else if self.configuration.isEnabled, !self.isUninstalling {
            let verdict = self.configuration.decision.verdict(object, namespaceLabels: labels)
            if verdict == .enrolled { goal = .enrolled }
            if verdict == .excludedNamespace, self.pods[uid] != nil {
                self.log.warning("pod \(object.key) leaves the mesh: \(verdict)")
            }
        }
        let annotation = object.annotations[MeshKeys.redirection].flatMap(PodEnrolment.Annotation.init)
        if self.pods[uid] == nil {
            // Nothing to undo, or too late to begin.
            if goal != .enrolled, annotation == nil { return }
            if goal == .enrolled, object.isBeingDeleted, annotation == nil { return }
            let (rules, warnings) = self.configuration.rules(for: object.annotations)
            for warning in warnings { self.log.warning("pod \(object.key): \(warning)") }
            self.pods[uid] = Pod(
                object: object, enrolment: PodEnrolment(goal: goal, annotation: annotation), rules: rules)
        }
        self.pods[uid]!.object = object
        self.pods[uid]!.enrolment.want(goal)
        self.pods[uid]!.enrolment.have(addresses: Self.addresses(object))
        let (rules, _) = self.configuration.rules(for: object.annotations)
        if rules != self.pods[uid]!.rules {
            self.pods[uid]!.rules = rules
            self.pods[uid]!.enrolment.rulesChanged()
        }
        // Somebody else wrote it. Our own writing comes back here too, and is then what we know already.
        if !self.pods[uid]!.isWorking { self.pods[uid]!.enrolment.annotationIs(annotation) }
        self.work(uid)
    }

    // MARK: performing

    /// Starts the pod's steps unless they are under way.
    func work(_ uid: String) {
        guard self.isServing, var pod = self.pods[uid], !pod.isWorking else { return }
        // A wait after a failure goes on, unless the failure was forgiven.
        if pod.enrolment.next() == .retryLater, pod.retry != nil { return }
        pod.retry?.cancel()
        pod.retry = nil
        pod.isWorking = true
        self.pods[uid] = pod
        Task { await self.perform(uid) }
    }

    private func perform(_ uid: String) async {
        while let pod = self.pods[uid] {
            let action = pod.enrolment.next()
            switch action {
            case .rest:
                self.pods[uid]?.isWorking = false
                return
            case .forget:
                self.answer(uid, "the pod left the mesh meanwhile")
                self.log.info("pod \(pod.object.key) is out of the mesh")
                self.pods[uid] = nil
                // It may be wanted again since the last look.
                self.reconsider(uid)
                return
            case .retryLater:
                self.scheduleRetry(uid, pod)
                return
            default: break
            }
            do {
                let isDone = try await self.perform(action, uid, pod)
                if self.isOvertaken(action, uid, pod) { continue }
                self.pods[uid]?.enrolment.finished(action, succeeded: isDone)
                if action != .awaitDrain { self.metrics.steps.with([Self.name(action), "ok"]).add() }
            } catch {
                if self.isOvertaken(action, uid, pod) { continue }
                self.pods[uid]?.enrolment.finished(action, succeeded: false)
                self.pods[uid]?.lastTrouble = "\(error)"
                self.metrics.steps.with([Self.name(action), "failed"]).add()
                self.log.warning("pod \(pod.object.key): \(Self.name(action)) failed: \(error)")
                self.pluginFailed(uid, "\(error)")
            }
            self.afterStep(uid)
        }
    }

    /// The pod got a new sandbox, or other rules are wanted, while the step was under way: it was done for nothing, and above
    /// all it was not done in the namespace that counts now.
    private func isOvertaken(_ action: PodEnrolment.Action, _ uid: String, _ begun: Pod) -> Bool {
        guard let now = self.pods[uid] else { return false }
        switch action {
        case .capture, .drain, .removeRules, .awaitDrain:
            return now.namespace?.identity != begun.namespace?.identity
                || (action == .capture && now.rules != begun.rules)
        case .askProxy:
            guard now.namespace?.identity != begun.namespace?.identity else { return false }
            // The proxy was told all the same.
            self.pods[uid]?.enrolment.finished(.askProxy, succeeded: false)
            self.pods[uid]?.enrolment.retry()
            return true
        case .findNamespace, .setProbes, .annotate, .dropFromProxy, .retryLater, .rest, .forget: return false
        }
    }

    private func afterStep(_ uid: String) {
        guard let pod = self.pods[uid] else { return }
        if pod.enrolment.isCaptured, !pod.waiting.isEmpty { self.answer(uid, nil) }
        if pod.enrolment.annotation == .enabled, pod.isPendingSince != nil {
            self.pods[uid]?.isPendingSince = nil
            self.log.info("pod \(pod.object.key) is enrolled")
        }
    }

    private func scheduleRetry(_ uid: String, _ pod: Pod) {
        var wait = Self.retryMin
        for _ in 1..<max(1, min(pod.enrolment.failures, 12)) { wait = min(wait * 2, Self.retryMax) }
        self.pods[uid]?.isWorking = false
        self.pods[uid]?.retry = Task {
            guard (try? await Task.sleep(for: wait)) != nil else { return }
            self.retryDue(uid)
        }
    }

    private func retryDue(_ uid: String) {
        self.pods[uid]?.retry = nil
        self.pods[uid]?.enrolment.retry()
        self.work(uid)
    }

    static func name(_ action: PodEnrolment.Action) -> String {
        switch action {
        case .findNamespace: "find_namespace"
        case .capture: "capture"
        case .askProxy: "ask_proxy"
        case .setProbes: "set_probes"
        case .annotate: "annotate"
        case .drain: "drain"
        case .awaitDrain: "await_drain"
        case .dropFromProxy: "drop_from_proxy"
        case .removeRules: "remove_rules"
        case .retryLater, .rest, .forget: "none"
        }
    }
}
