internal import KubeAPI
internal import KubeClient

/// Waits until every node of a new cluster is Ready, and tells of each one.
struct NodeWait: Sendable {
    private let spec: LabSpec
    private let keepers: [(node: LabSpec.Node, process: ProcessIdentity)]
    private let lab: Lab

    init(_ spec: LabSpec, _ keepers: [(LabSpec.Node, ProcessIdentity)], _ lab: Lab) {
        self.spec = spec
        self.keepers = keepers.map { (node: $0.0, process: $0.1) }
        self.lab = lab
    }

    /// - Throws: when a node's process ends, or the time is over.
    func run(within timeout: Duration, since clock: ContinuousClock.Instant) async throws {
        let client = try KubeClient(
            try KubeConfiguration.kubeconfig(path: self.lab.paths.kubeconfig(self.spec.name)), userAgent: "martlet-lab")
        do {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask { await self.allReady(client, since: clock) }
                group.addTask {
                    try await self.watchProcesses()
                    return false
                }
                group.addTask {
                    try await Task.sleep(for: timeout)
                    throw LabError(
                        "not all nodes of cluster \(self.spec.name) were Ready within \(timeout); raise --timeout, "
                            + "or make it with --no-wait and look at \(self.lab.paths.state(self.spec.name))/logs")
                }
                _ = try await group.next()
                group.cancelAll()
            }
            try? await client.shutdown()
        } catch {
            try? await client.shutdown()
            throw error
        }
    }

    private func allReady(_ client: KubeClient, since clock: ContinuousClock.Instant) async -> Bool {
        var missing = Set(self.spec.nodes.map { self.spec.nodeName($0) })
        for await event in Informer(client, .nodes).events() {
            let changed: [KubeObject] =
                switch event {
                case .snapshot(let nodes): nodes
                case .updated(let node): [node]
                case .deleted: []
                }
            for node in changed where node.condition("Ready") == "True" && missing.remove(node.name) != nil {
                let address = node.status["addresses"]?[0]?["address"]?.string ?? ""
                self.lab.progress("  \(Lab.seconds(since: clock))  node \(node.name) Ready (\(address))")
            }
            if missing.isEmpty { return true }
        }
        return false
    }

    private func watchProcesses() async throws {
        while true {
            try await Task.sleep(for: .milliseconds(100))
            for (node, process) in self.keepers where !process.isAlive {
                let name = self.spec.nodeName(node)
                throw LabError("node \(name) did not start:\(self.lab.tail(self.spec.name, name))")
            }
        }
    }
}
