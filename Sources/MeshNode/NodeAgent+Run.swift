internal import KubeAPI
internal import KubeClient
internal import MeshCNI
internal import MeshLinux
internal import MeshTelemetry
internal import NIOPosix

/// The agent's life: start, run, stop, and the difference between a restart and the end of the mesh on this node.
extension NodeAgent {
    /// How often the CNI chain is looked at. Its writers replace whole files, so looking is as good as watching.
    static let installInterval = Duration.seconds(2)

    /// Runs until `stopped` returns, then stops (and cleans up, when the mesh is being removed).
    package func run(untilStopped stopped: @escaping @Sendable () async -> Void) async throws {
        try await self.probes.install()
        try Files.makeDirectory(self.configuration.runDirectory)
        let plugin = try UnixHTTPServer(path: "\(self.configuration.runDirectory)/pluginevent.sock", mode: 0o666)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.follow() }
            group.addTask { try await self.serveEndpoints() }
            group.addTask {
                await self.waitUntilSynced()
                await self.adoptRunningPods()
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { await self.zds.run { await self.snapshot() } }
                    group.addTask { for await count in self.proxyChanges { await self.proxiesChanged(count) } }
                    group.addTask { try await plugin.run { await self.answerPlugin($0) } }
                    group.addTask { await self.keepRecord() }
                    group.addTask { await self.keepInstalled() }
                    group.addTask { await self.keepFromDrifting() }
                    try await group.waitForAll()
                }
            }
            group.addTask {
                await stopped()
                // Cancelled: a server failed, and the process is to be started again.
                if !Task.isCancelled { await self.stop() }
                throw CancellationError()
            }
            do {
                // Whoever ends first ends all: the stop, or a failure of one of the servers.
                try await group.next()
                while true { if try await group.next() == nil { break } }
            } catch is CancellationError {}
            group.cancelAll()
        }
    }

    private func follow() async {
        let node = ListOptions(fieldSelector: "spec.nodeName=\(self.configuration.nodeName)")
        await withDiscardingTaskGroup { group in
            group.addTask {
                for await event in self.informer(.pods, node) { await self.observe(event) }
            }
            group.addTask {
                for await event in self.informer(.namespaces, ListOptions()) { await self.observeNamespace(event) }
            }
            group.addTask {
                let namespace = self.configuration.podNamespace
                // By name, so that a role for this one object is enough.
                let own = ListOptions(fieldSelector: "metadata.name=\(self.configuration.daemonSetName)")
                for await event in self.informer(.daemonSets, own, namespace) {
                    await self.observeOwner(event)
                }
            }
            for selector in self.configuration.decision.selectors where selector.namespace.requirements.isEmpty {
                group.addTask {
                    let options = ListOptions(labelSelector: selector.pod.query)
                    for await event in self.informer(.pods, options) { await self.observeOptedIn(event) }
                }
            }
        }
    }

    private nonisolated func informer(
        _ type: ResourceType, _ options: ListOptions, _ namespace: String? = nil
    ) -> AsyncStream<InformerEvent> {
        Informer(self.kube, type, namespace: namespace, options).events { error in
            self.log.warning("cannot follow \(type) at the API server: \(error)")
        }
    }

    private func waitUntilSynced() async {
        while !self.isSynced, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(20)) }
    }

    /// Pods that a predecessor enrolled: their namespaces are found before the first proxy is told what to keep.
    private func adoptRunningPods() async {
        let enrolled = self.objects.values.filter { object in
            object.annotations[MeshKeys.redirection] != nil && !Self.isTerminal(object)
        }
        await withDiscardingTaskGroup { group in
            for object in enrolled {
                group.addTask { await self.adopt(object) }
            }
        }
        for uid in self.objects.keys { self.reconsider(uid) }
        do {
            try await self.probes.keep(only: Set(self.pods.keys))
        } catch {
            self.log.warning("cannot drop old probe entries of the node: \(error)")
        }
        self.isServing = true
        for uid in self.pods.keys { self.work(uid) }
    }

    private func adopt(_ object: KubeObject) async {
        let namespace = await self.finder.find(object.uid, Self.addresses(object))
        let probes = await self.probes.addresses(of: object.uid)
        guard self.pods[object.uid] != nil else { return }
        self.pods[object.uid]?.enrolment.probesDrifted(to: probes)
        guard let namespace else {
            self.log.warning("pod \(object.key) is enrolled, but no process of it was found; it is looked for again")
            return
        }
        self.pods[object.uid]?.namespace = namespace
        self.pods[object.uid]?.enrolment.have(namespaceIsNew: false)
        if !self.configuration.reconcilesOnStart {
            self.pods[object.uid]?.enrolment.keepPredecessorsRules()
            self.pods[object.uid]?.keepsPredecessorsRules = true
        }
    }

    /// What the plugin may know when we are not there.
    private func keepRecord() async {
        while !Task.isCancelled {
            if let labels = self.namespaceLabels, let optedIn = self.optedIn ?? self.optedInWithoutSelectors {
                let asking = Set(optedIn.values)
                let record = EnrolmentRecord(
                    freeNamespaces: Set(
                        labels.filter {
                            self.configuration.decision.isFree(
                                $0.key, labels: $0.value, hasOptedInPods: asking.contains($0.key))
                        }.keys))
                if record != self.writtenRecord, !self.isUninstalling { await self.write(record) }
            }
            try? await Task.sleep(for: .milliseconds(500))
        }
    }

    private var optedInWithoutSelectors: [String: String]? {
        self.configuration.decision.selectors.contains { $0.namespace.requirements.isEmpty } ? nil : [:]
    }

    private func write(_ record: EnrolmentRecord) async {
        let path = "\(self.configuration.runDirectory)/enrolment.json"
        do {
            try await KernelThread.perform {
                try Files.writeAtomically(record.json.encoded, to: path, mode: 0o600)
            }
            self.writtenRecord = record
        } catch {
            self.log.warning("cannot write \(path): \(error)")
        }
    }

    private var chainInstaller: CNIInstaller {
        CNIInstaller(
            self.configuration.installer,
            CNIConfiguration(
                runDirectory: self.configuration.installer.runDirectory,
                agentNamespace: self.configuration.podNamespace,
                excludedNamespaces: self.configuration.decision.excludedNamespaces.sorted(),
                isEnabled: self.configuration.isEnabled))
    }

    private func keepInstalled() async {
        let installer = self.chainInstaller
        var rounds = 0
        var lastComplaint = ""
        while !Task.isCancelled {
            do {
                let state = try await KernelThread.perform { try installer.reconcile() }
                if self.isUninstalling { return }
                self.isInstalled = state != .waitingForPrimary
                lastComplaint = ""
                switch state {
                case .installed:
                    self.metrics.installs.with(["SUCCESS"]).add()
                    self.log.info(
                        "the CNI plugin is installed in \(self.configuration.installer.configurationDirectory)")
                    rounds += 1
                    if rounds > 5 {
                        self.log.warning(
                            "something keeps reverting the node's CNI configuration; set Cilium's cni.exclusive=false")
                    }
                case .unchanged: rounds = 0
                case .waitingForPrimary:
                    self.log.info("waiting for the main CNI to write its configuration")
                }
            } catch {
                self.isInstalled = false
                let complaint = "\(error)"
                if complaint != lastComplaint { self.log.error("\(complaint)") }
                lastComplaint = complaint
                if let failure = error as? CNIInstaller.Failure {
                    self.metrics.installs.with([failure.result]).add()
                }
            }
            try? await Task.sleep(for: Self.installInterval)
        }
    }

    private func keepFromDrifting() async {
        guard self.configuration.driftInterval > .zero else { return }
        while (try? await Task.sleep(for: self.configuration.driftInterval)) != nil { await self.checkDrift() }
    }

    /// The pages for kubelet and Prometheus, until the task is cancelled.
    private func serveEndpoints() async throws {
        let health = [
            EndpointRoute("/healthz", methods: ["GET"]) { _ in .text("ok\n") },
            EndpointRoute("/readyz", methods: ["GET"]) { _ in
                let missing = await self.missingForReadiness
                return .text("\(missing ?? "ready")\n", status: missing == nil ? 200 : 503)
            },
        ]
        let metrics = EndpointRoute.metrics(self.metrics.registry).map { route in
            var route = route
            let answer = route.answer
            route.answer = { request in
                await self.computeFigures()
                return try await answer(request)
            }
            return route
        }
        let host = LocalAddresses.everywhere(isIPv6Enabled: self.configuration.isIPv6Enabled)
        var servers: [HTTPEndpoints] = []
        do {
            for (port, routes) in [
                (self.configuration.healthPort, health), (self.configuration.monitoringPort, metrics),
            ] {
                servers.append(
                    try await HTTPEndpoints.bind(
                        [.init(host: host, port: port)], routes: routes, group: MultiThreadedEventLoopGroup.singleton))
            }
            // Nothing but the cancellation ends this.
            while true { try await Task.sleep(for: .seconds(3600)) }
        } catch {
            for server in servers { await server.close() }
            throw error
        }
    }

    private var missingForReadiness: String? {
        if !self.isServing { return "the pods of this node are not known yet" }
        if !self.isInstalled { return "the CNI plugin is not installed" }
        return nil
    }

    // MARK: the end

    private func stop() async {
        guard await self.isLeavingTheNode() else {
            self.log.info("stopping; pods stay enrolled and the CNI plugin stays installed")
            return
        }
        self.log.info("the mesh leaves this node: un-enrolling \(self.pods.count) pods")
        self.isUninstalling = true
        self.isInstalled = false
        let installer = self.chainInstaller
        do {
            try await KernelThread.perform { try installer.remove() }
        } catch {
            self.log.error("the CNI plugin could not be removed: \(error)")
        }
        for (uid, pod) in self.pods {
            if case .gone = pod.enrolment.goal { continue }
            self.pods[uid]?.enrolment.want(.out)
            self.pods[uid]?.retry?.cancel()
            self.pods[uid]?.retry = nil
            self.work(uid)
        }
        // Each drain ends by itself at the shutdown limit; the last steps need a moment more.
        let end = ContinuousClock.now + self.configuration.shutdownLimit + .seconds(5)
        while !self.pods.isEmpty, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(50)) }
        for pod in self.pods.values {
            self.log.error("pod \(pod.object.key) was not un-enrolled completely: \(pod.lastTrouble)")
        }
        do {
            try await self.probes.removeAll()
        } catch {
            self.log.error("the node's probe rules could not be removed: \(error)")
        }
    }

    /// Is this the end of the mesh here, or only of this process? Asked of the DaemonSet that owns us. When there is no clear
    /// answer nothing is touched: taking pods out of the mesh is the one thing that must not happen by mistake.
    private func isLeavingTheNode() async -> Bool {
        if self.configuration.cleansUpOnEveryStop || self.owner == .leaving { return true }
        for attempt in 0..<3 {
            if attempt > 0 { try? await Task.sleep(for: .seconds(1)) }
            do {
                let owner = try await self.kube.find(
                    .daemonSets, namespace: self.configuration.podNamespace, name: self.configuration.daemonSetName)
                return owner.map(\.isBeingDeleted) ?? true
            } catch let error as StatusError where error.code == 401 {
                // Our account is gone, and with it the mesh.
                return true
            } catch {
                self.log.warning("cannot ask whether the mesh is being removed: \(error)")
            }
        }
        return false
    }
}
