internal import KubeAPI
internal import KubeClient
internal import MeshCNI
internal import MeshLinux
internal import MeshModel

/// Answers the CNI plugin: may this pod start, and may this one's network go?
extension NodeAgent {
    func answerPlugin(_ request: UnixHTTPRequest) async -> UnixHTTPResponse {
        let response = await self.decide(request)
        self.metrics.pluginRequests.with(["\(response.status)"]).add()
        return response
    }

    private func decide(_ request: UnixHTTPRequest) async -> UnixHTTPResponse {
        guard let purpose = PluginRequest.Purpose(rawValue: request.target) else {
            return UnixHTTPResponse(status: 404, text: "no such page")
        }
        guard request.method == "POST" else { return UnixHTTPResponse(status: 405, text: "POST only") }
        let pod: PluginRequest
        do {
            pod = try PluginRequest(JSONValue(parsing: request.body))
        } catch {
            return UnixHTTPResponse(status: 400, text: "\(error)")
        }
        switch purpose {
        case .start: return await self.admit(pod)
        case .end:
            await self.release(pod)
            return UnixHTTPResponse(status: 200)
        }
    }

    private func admit(_ pod: PluginRequest) async -> UnixHTTPResponse {
        if self.isUninstalling { return UnixHTTPResponse(status: 200) }
        do {
            let (object, labels) = try await self.lookUp(pod)
            let verdict = self.configuration.decision.verdict(object, namespaceLabels: labels)
            guard self.configuration.isEnabled, verdict == .enrolled else {
                return UnixHTTPResponse(status: 200, text: "not captured: \(verdict)")
            }
            if let reason = await self.capture(pod, object) {
                self.log.warning("pod \(object.key) cannot start: \(reason)")
                return UnixHTTPResponse(status: 500, text: reason)
            }
            return UnixHTTPResponse(status: 200)
        } catch {
            if self.writtenRecord?.freeNamespaces.contains(pod.podNamespace) == true, !(error is StepFailure.Certain) {
                return UnixHTTPResponse(status: 200, text: "not captured: nothing is, in its namespace")
            }
            self.log.warning("pod \(pod.podNamespace)/\(pod.podName) cannot start: \(error)")
            return UnixHTTPResponse(status: 503, text: "\(error)")
        }
    }

    /// The pod and its namespace's labels, from the API server itself: a cache may lag behind a label that was just set.
    private func lookUp(_ request: PluginRequest) async throws -> (KubeObject, [String: String]) {
        do {
            async let namespace = self.kube.get(.namespaces, namespace: nil, name: request.podNamespace)
            let object = try await self.kube.get(.pods, namespace: request.podNamespace, name: request.podName)
            if !request.podUID.isEmpty, object.uid != request.podUID {
                throw StepFailure.Certain(
                    description: "the API server knows another pod of this name (UID \(object.uid)); this one is gone")
            }
            return (object, try await namespace.labels)
        } catch let error as StepFailure.Certain {
            throw error
        } catch {
            throw StepFailure(description: "cannot ask the API server whether the pod is to be captured: \(error)")
        }
    }

    /// Enrols a starting pod and waits until it is captured.
    /// - Returns: why it is not.
    private func capture(_ request: PluginRequest, _ object: KubeObject) async -> String? {
        let namespace: SharedNetworkNamespace
        do {
            namespace = try self.open(request.networkNamespace)
        } catch {
            return "cannot open the pod's network namespace: \(error)"
        }
        let uid = object.uid
        if self.pods[uid] == nil {
            let annotation = object.annotations[MeshKeys.redirection].flatMap(PodEnrolment.Annotation.init)
            self.pods[uid] = Pod(
                object: object, enrolment: PodEnrolment(goal: .enrolled, annotation: annotation),
                rules: self.configuration.rules(for: object.annotations).rules)
        }
        let isNew = self.pods[uid]?.namespace?.identity != namespace.identity
        // Whoever waits for the old sandbox must not take the new one's capture for its own.
        if isNew { self.answer(uid, "a newer sandbox of the pod took the place of this one") }
        self.pods[uid]?.namespace = namespace
        self.pods[uid]?.enrolment.want(.enrolled)
        self.pods[uid]?.enrolment.have(addresses: Set(request.addresses))
        self.pods[uid]?.enrolment.have(namespaceIsNew: isNew)
        if self.pods[uid]?.enrolment.isCaptured == true { return nil }
        self.nextWaiter += 1
        let number = self.nextWaiter
        let limit = Task {
            guard (try? await Task.sleep(for: Self.pluginLimit)) != nil else { return }
            self.giveUp(uid, number)
        }
        defer { limit.cancel() }
        return await withCheckedContinuation { waiting in
            self.pods[uid]?.waiting[number] = waiting
            self.work(uid)
        }
    }

    /// The runtime takes the pod's sandbox down: returns when the proxy has told the pod's peers, which would wait for a PING
    /// to fail if its network went first. The pod may get a new sandbox, and the enrolment waits for that.
    private func release(_ request: PluginRequest) async {
        let found = self.pods.first { _, pod in
            pod.object.namespace == request.podNamespace && pod.object.name == request.podName
                && (request.podUID.isEmpty || pod.object.uid == request.podUID)
        }
        // Old sandboxes are cleaned up when a new one has long taken their place.
        guard let (uid, pod) = found, let known = pod.namespace,
            let ending = try? self.open(request.networkNamespace), known.identity == ending.identity
        else { return }
        self.answer(uid, "the pod's sandbox is taken down")
        self.pods[uid]?.namespace = nil
        self.pods[uid]?.enrolment.loseNamespace()
        await self.zds.delete(uid: uid)
    }

    /// `/run` and `/var/run` are one folder on every node, but only the second is mounted into our pod.
    private static func mounted(_ path: String) -> String {
        path.hasPrefix("/run/") ? "/var" + path : path
    }

    /// The runtime's path is one of the node; we see the node's files below ``NodeAgentConfiguration/hostRoot``.
    private func open(_ path: String) throws -> SharedNetworkNamespace {
        do throws(SystemError) {
            return try SharedNetworkNamespace(
                try NetworkNamespace(path: self.configuration.hostRoot + Self.mounted(path)))
        } catch  where error.isNotFound {
            return try SharedNetworkNamespace(try NetworkNamespace(path: path))
        }
    }

    private func giveUp(_ uid: String, _ number: Int) {
        let trouble = self.pods[uid]?.lastTrouble ?? ""
        self.pods[uid]?.waiting.removeValue(forKey: number)?
            .resume(returning: "not captured within \(Self.pluginLimit); last trouble: \(trouble)")
    }

    func answer(_ uid: String, _ reason: String?) {
        let waiting = self.pods[uid]?.waiting ?? [:]
        self.pods[uid]?.waiting = [:]
        for waiter in waiting.values { waiter.resume(returning: reason) }
    }

    /// A step failed while the runtime waits: the pod does not start, the runtime tears the sandbox down, and what was done in
    /// its namespace goes with it. The enrolment stays (as pending) and begins anew with the next sandbox.
    func pluginFailed(_ uid: String, _ reason: String) {
        guard let pod = self.pods[uid], !pod.waiting.isEmpty else { return }
        self.answer(uid, reason)
        self.pods[uid]?.namespace = nil
        self.pods[uid]?.enrolment.loseNamespace()
    }
}
