internal import KubeAPI
internal import KubeClient
internal import MeshLinux
internal import MeshModel
internal import MeshZDS

struct StepFailure: Error, CustomStringConvertible {
    let description: String

    /// Known to be so, not for want of an answer.
    struct Certain: Error, CustomStringConvertible {
        let description: String
    }
}

/// The steps of an enrolment, performed.
extension NodeAgent {
    /// - Returns: false only for a drain that is not over yet.
    func perform(_ action: PodEnrolment.Action, _ uid: String, _ pod: Pod) async throws -> Bool {
        switch action {
        case .findNamespace:
            guard let found = await self.finder.find(uid, pod.enrolment.addresses) else {
                throw StepFailure(
                    description: "no process with the pod's UID in its cgroup path holds a network namespace with the "
                        + "pod's address; is \(self.configuration.hostProc) the node's /proc?")
            }
            // The plugin may have brought a newer one meanwhile.
            if self.pods[uid]?.enrolment.hasNamespace == false { self.pods[uid]?.namespace = found }
        case .capture:
            let started = ContinuousClock.now
            // The plugin waits only for sandboxes that were just made.
            let captured = try await self.network.capture(
                try Self.namespace(pod), pod.rules, isNew: !pod.waiting.isEmpty)
            self.pods[uid]?.keepsPredecessorsRules = false
            self.metrics.rulesSeconds.record((ContinuousClock.now - started) / .seconds(1))
            if let trouble = captured.firstHandOverTrouble(log: pod.enrolment.annotation == nil) {
                self.log.warning(
                    "pod \(pod.object.key): a proxy that restarts may reset waiting connections: \(trouble)")
            }
            if !captured.wasThere, captured.openConnections > 0, pod.enrolment.annotation == nil {
                self.metrics.openConnections.with().add(UInt64(captured.openConnections))
                self.log.info(
                    "pod \(pod.object.key): \(captured.openConnections) open connections pass by the proxy until they end"
                )
            }
        case .askProxy: try await self.zds.add(Self.zdsPod(pod.object), try Self.namespace(pod))
        case .setProbes(let addresses):
            try await self.probes.set(uid, to: addresses)
            self.metrics.probeEntries.set(Int64(await self.probes.count))
        case .annotate(let value):
            try await self.annotate(pod.object, value)
            // Our copy changes before the watch says so: nobody is to undo it twice.
            let path = ["metadata", "annotations", MeshKeys.redirection]
            self.objects[uid]?.json.set(path, to: value.map { .string($0.rawValue) })
            self.pods[uid]?.object.json.set(path, to: value.map { .string($0.rawValue) })
        case .drain:
            try await self.network.drain(try Self.namespace(pod), pod.rules)
            self.pods[uid]?.drainStarted = .now
        case .awaitDrain: return try await self.isDrained(pod)
        case .dropFromProxy: await self.zds.delete(uid: uid)
        case .removeRules: try await self.network.removeAll(try Self.namespace(pod))
        case .retryLater, .rest, .forget: break
        }
        return true
    }

    private static func namespace(_ pod: Pod) throws -> SharedNetworkNamespace {
        guard let namespace = pod.namespace else {
            throw StepFailure(description: "the pod's network namespace is not known any more")
        }
        return namespace
    }

    static func zdsPod(_ object: KubeObject) -> ZDSPod {
        ZDSPod(
            uid: object.uid, name: object.name, namespace: object.namespace,
            serviceAccount: object.spec["serviceAccountName"]?.string ?? "default")
    }

    /// Merge patch on the status subresource, which needs less privilege than the pod itself. The UID guards a new pod of the
    /// same name.
    private func annotate(_ object: KubeObject, _ value: PodEnrolment.Annotation?) async throws {
        let patch: JSONValue = [
            "metadata": [
                "uid": .string(object.uid),
                "annotations": [MeshKeys.redirection: value.map { .string($0.rawValue) } ?? .null],
            ]
        ]
        let kube = self.kube
        do {
            try await withTimeLimit(Self.patchLimit) {
                _ = try await kube.patch(
                    .pods, namespace: object.namespace, name: object.name, subresource: "status", .merge(patch))
            }
        } catch let error as StatusError where error.isNotFound || error.isConflict {
            // Gone, or replaced by a namesake: nothing of ours is on it.
        } catch  where self.isUninstalling {
            self.log.warning("pod \(object.key) keeps its annotation: \(error)")
        }
    }

    private func isDrained(_ pod: Pod) async throws -> Bool {
        let started = pod.drainStarted ?? .now
        let limit = self.isUninstalling ? self.configuration.shutdownLimit : self.configuration.drainLimit
        try? await Task.sleep(for: Self.drainPoll)
        if ContinuousClock.now - started < min(self.configuration.drainMin, limit) { return false }
        let left = try await self.network.servedConnections(try Self.namespace(pod))
        if left == 0 { return true }
        if ContinuousClock.now - started < limit { return false }
        self.metrics.undrainedConnections.with().add(UInt64(left))
        self.log.warning("pod \(pod.object.key): \(left) captured connections are cut after \(limit)")
        return true
    }

    // MARK: what others report

    /// Every pod that a proxy should serve.
    func snapshot() -> [ZDSSnapshotEntry] {
        self.pods.compactMap { uid, pod in
            switch pod.enrolment.goal {
            case .gone: nil
            case .out where !pod.enrolment.isProxyAware: nil
            case .out, .enrolled:
                pod.namespace.map { .add(Self.zdsPod(pod.object), $0) } ?? .keep(uid: uid)
            }
        }
    }

    /// A proxy came, or one is gone: pods that nobody has acknowledged any more are asked for again.
    func proxiesChanged(_ count: Int) {
        for (uid, pod) in self.pods {
            if pod.enrolment.isServed, !self.zds.isServed(uid: uid) { self.pods[uid]?.enrolment.proxyLost() }
            if count > 0 { self.pods[uid]?.enrolment.proxyConnected() }
            self.work(uid)
        }
    }

    /// Compares what is in the kernel with what should be, pod by pod.
    package func checkDrift() async {
        for uid in self.pods.keys.sorted() {
            guard let pod = self.pods[uid], pod.enrolment.rules == .capturing, !pod.isWorking,
                !pod.keepsPredecessorsRules, let namespace = pod.namespace
            else { continue }
            do {
                guard try await self.network.hasDrifted(namespace, pod.rules) else { continue }
            } catch {
                self.log.warning("pod \(pod.object.key): cannot check its rules: \(error)")
                continue
            }
            // The pod may have moved on during the check.
            guard self.pods[uid]?.enrolment.rules == .capturing, self.pods[uid]?.isWorking == false else { continue }
            self.log.warning("pod \(pod.object.key): somebody changed its rules; putting them right")
            self.metrics.driftRepaired.with(["pod"]).add()
            self.pods[uid]?.enrolment.rulesDrifted()
            self.work(uid)
        }
        do {
            let wrong = try await self.probes.repair()
            if wrong > 0 {
                self.log.warning("\(wrong) probe entries of the node were changed by somebody; put right")
                self.metrics.driftRepaired.with(["probes"]).add(UInt64(wrong))
            }
        } catch {
            self.log.warning("cannot check the probe entries of the node: \(error)")
        }
    }

    /// What Prometheus is told.
    package func metricsText() -> String {
        self.computeFigures()
        return self.metrics.registry.openMetrics()
    }

    /// Figures that are cheaper to compute when somebody asks.
    func computeFigures() {
        var states: [String: Int64] = ["enrolled": 0, "pending": 0, "leaving": 0]
        var oldest = 0.0
        for pod in self.pods.values {
            switch pod.enrolment.goal {
            case .enrolled where pod.isPendingSince == nil: states["enrolled", default: 0] += 1
            case .enrolled:
                states["pending", default: 0] += 1
                oldest = max(oldest, (ContinuousClock.now - pod.isPendingSince!) / .seconds(1))
            case .out, .gone: states["leaving", default: 0] += 1
            }
        }
        for (state, count) in states { self.metrics.pods.with([state]).set(count) }
        self.metrics.oldestPendingSeconds.set(Int64(oldest))
        self.metrics.isInstallReady.set(self.isInstalled ? 1 : 0)
    }
}

/// Cancels the body when it takes longer.
private func withTimeLimit(
    _ limit: Duration, _ body: @escaping @Sendable () async throws -> Void
) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: limit)
            throw StepFailure(description: "the API server did not answer within \(limit)")
        }
        try await group.next()
        group.cancelAll()
    }
}

extension PodNetwork.Captured {
    /// Said once per pod, at its first enrolment.
    fileprivate func firstHandOverTrouble(log isFirst: Bool) -> String? { isFirst ? self.handOverTrouble : nil }
}
