import KubeAPI
package import KubeClient

/// `waypoint delete`: removes waypoints, and says who still points at them.
package struct WaypointDelete: Sendable {
    package let cluster: any KubeCluster
    package let namespace: String
    package let names: [String]
    package let all: Bool
    package let revision: String?
    /// Takes the labels of their users away too.
    package let unenrols: Bool
    package let output: Output

    package init(
        cluster: any KubeCluster, namespace: String, names: [String], all: Bool, revision: String?, unenrols: Bool,
        output: Output
    ) throws {
        if names.isEmpty, !all, revision == nil {
            throw CommandError("say which waypoints: by name, --revision REV, or --all for those of the namespace")
        }
        if !names.isEmpty, all || revision != nil {
            throw CommandError("names cannot be given together with --all or --revision")
        }
        self.cluster = cluster
        self.namespace = namespace
        self.names = names
        self.all = all
        self.revision = revision
        self.unenrols = unenrols
        self.output = output
    }

    /// - Throws: the first failure, after all have been tried.
    package func run() async throws {
        let present = try await Waypoint.list(self.cluster, namespace: self.namespace)
        let wanted =
            self.names.isEmpty
            ? present.filter { self.revision == nil || $0.labels[Waypoint.revisionLabel] == self.revision }.map(\.name)
            : self.names
        if wanted.isEmpty { self.output.line("No waypoints found.") }
        // Gateways of other classes are not ours to delete.
        let known = Set(present.map(\.name))
        let failures = await withTaskGroup(of: (Int, Result<Bool, any Error>).self) { group in
            for (index, name) in wanted.enumerated() {
                group.addTask {
                    do { return (index, .success(known.contains(name) ? try await self.delete(name) : false)) } catch {
                        return (index, .failure(error))
                    }
                }
            }
            var results: [Int: Result<Bool, any Error>] = [:]
            for await (index, result) in group { results[index] = result }
            var failures: [String] = []
            for (index, name) in wanted.enumerated() {
                switch results[index] {
                case .success(true): self.output.line("waypoint \(self.namespace)/\(name) deleted")
                case .success(false), nil: self.output.line("waypoint \(self.namespace)/\(name) not found")
                case .failure(let error): failures.append("\(self.namespace)/\(name): \(error)")
                }
            }
            return failures
        }
        for name in wanted where known.contains(name) { try await self.leaveNobody(name) }
        guard failures.isEmpty else { throw CommandError("not deleted: \(failures.joined(separator: "; "))") }
    }

    private func delete(_ name: String) async throws -> Bool {
        do {
            try await self.cluster.delete(.gateways, namespace: self.namespace, name: name)
            return true
        } catch let error as StatusError where error.isNotFound {
            return false
        }
    }

    private func leaveNobody(_ name: String) async throws {
        guard try await self.cluster.find(.gateways, namespace: self.namespace, name: name) == nil else { return }
        for user in try await WaypointUser.list(self.cluster, waypoint: name, namespace: self.namespace) {
            if self.unenrols {
                try await user.unenrol(self.cluster)
                self.output.line("\(user.words) no longer uses waypoint \(self.namespace)/\(name)")
            } else {
                self.output.warn(
                    "\(user.words) still asks for waypoint \(self.namespace)/\(name); let it go with: kubectl label "
                        + "\(user.words) \(Waypoint.useLabel)- \(Waypoint.useNamespaceLabel)-")
            }
        }
    }
}
