internal import KubeAPI

extension ClusterAPI {
    /// POST to `/token`, `/eviction`, `/binding`.
    func createSubresource(
        _ kind: ResourceKind, _ key: ObjectKey, _ subresource: String, _ body: JSONValue, _ options: WriteOptions
    ) async throws -> WriteOutcome {
        switch (kind.storage, subresource) {
        case ("serviceaccounts", "token"):
            return WriteOutcome(object: try self.issueToken(kind, key, body), isCreated: true)
        case ("pods", "eviction"): return try await self.evict(kind, key, body, options)
        case ("pods", "binding"): return try await self.bind(kind, key, body, options)
        default: throw StatusError.methodNotAllowed
        }
    }

    private static let created: JSONValue = [
        "kind": "Status", "apiVersion": "v1", "metadata": [:], "status": "Success", "code": 201,
    ]

    /// What a DeleteOptions object asks for.
    static func deletion(_ options: JSONValue) -> Deletion {
        var deletion = Deletion()
        deletion.gracePeriodSeconds = options["gracePeriodSeconds"]?.int
        deletion.propagationPolicy = options["propagationPolicy"]?.string
        if options["orphanDependents"]?.bool == true { deletion.propagationPolicy = "Orphan" }
        deletion.uid = options.at("preconditions", "uid")?.string
        deletion.resourceVersion = options.at("preconditions", "resourceVersion")?.string
        deletion.isDryRun = options["dryRun"]?.array?.isEmpty == false
        return deletion
    }

    /// Deletes a pod unless a disruption budget stands against it.
    private func evict(
        _ kind: ResourceKind, _ key: ObjectKey, _ body: JSONValue, _ options: WriteOptions
    ) async throws -> WriteOutcome {
        let pod = try self.stored(kind, key)
        let isRunning = pod.json.at("status", "phase")?.string == "Running"
        if isRunning, !pod.object.isBeingDeleted { try await self.spendDisruption(on: pod, options) }
        var deletion = Self.deletion(body["deleteOptions"] ?? [:])
        deletion.isDryRun = deletion.isDryRun || options.isDryRun
        _ = try await self.delete(kind, key, deletion)
        return WriteOutcome(object: Self.created, isCreated: true)
    }

    private func spendDisruption(on pod: StoredObject, _ options: WriteOptions) async throws {
        let type = ResourceType(
            group: "policy", version: "v1", plural: "poddisruptionbudgets", kind: "PodDisruptionBudget",
            isNamespaced: true)
        let kind = try self.kind(type)
        for budget in self.store.snapshot(kind.storage, namespace: pod.key.namespace).objects {
            guard let json = budget.json.at("spec", "selector"), let selector = try? LabelSelector(json),
                selector.matches(pod.labels), let status = budget.json["status"]
            else { continue }
            let allowed = status["disruptionsAllowed"]?.int ?? 0
            guard allowed > 0 else {
                let (desired, current) = (status["desiredHealthy"]?.int ?? 0, status["currentHealthy"]?.int ?? 0)
                throw StatusError(
                    code: 429, reason: "TooManyRequests",
                    message: "Cannot evict pod as it would violate the pod's disruption budget.",
                    details: [
                        "causes": [
                            [
                                "reason": "DisruptionBudget",
                                "message": .string(
                                    "The disruption budget \(budget.key.name) needs \(desired) healthy pods and has \(current) currently"
                                ),
                            ]
                        ]
                    ])
            }
            if options.isDryRun { continue }
            _ = try await self.patch(
                kind, budget.key, subresource: "status",
                .merge(["status": ["disruptionsAllowed": .int(allowed - 1)]]), options)
        }
    }

    /// The scheduler's decision.
    private func bind(
        _ kind: ResourceKind, _ key: ObjectKey, _ body: JSONValue, _ options: WriteOptions
    ) async throws -> WriteOutcome {
        let node = body.at("target", "name")?.string ?? ""
        if node.isEmpty {
            throw StatusError.invalid(kind: "Binding", group: "", key.name, [.required("target.name")])
        }
        while true {
            let current = try self.stored(kind, key)
            if current.object.isBeingDeleted {
                throw StatusError.conflict(
                    kind, key.name, "pod \(key.name) is being deleted, cannot be assigned to a host")
            }
            let present = current.json.at("spec", "nodeName")?.string ?? ""
            if !present.isEmpty {
                throw StatusError.conflict(kind, key.name, "pod \(key.name) is already assigned to node \"\(present)\"")
            }
            var pod = current.json
            pod.set(["spec", "nodeName"], to: .string(node))
            var conditions = pod.at("status", "conditions")?.array ?? []
            conditions.removeAll { $0["type"]?.string == "PodScheduled" }
            conditions.append([
                "type": "PodScheduled", "status": "True", "lastProbeTime": .null,
                "lastTransitionTime": .string(Timestamp.now),
            ])
            pod.set(["status", "conditions"], to: .array(conditions))
            if options.isDryRun { return WriteOutcome(object: Self.created, isCreated: true) }
            do {
                _ = try await self.commit(kind, key, expecting: .revision(current.revision), pod)
                return WriteOutcome(object: Self.created, isCreated: true)
            } catch is ObjectStore.WriteConflict {
                continue
            }
        }
    }
}
