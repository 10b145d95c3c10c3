import KubeAPI
package import KubeClient

/// `waypoint list`
package struct WaypointList: Sendable {
    package let cluster: any KubeCluster
    /// Nil: all.
    package let namespace: String?
    package let output: Output

    package init(cluster: any KubeCluster, namespace: String?, output: Output) {
        self.cluster = cluster
        self.namespace = namespace
        self.output = output
    }

    package func run() async throws {
        let waypoints = try await Waypoint.list(self.cluster, namespace: self.namespace)
        guard !waypoints.isEmpty else {
            self.output.line("No waypoints found.")
            return
        }
        let isAll = self.namespace == nil
        var table = Table((isAll ? ["NAMESPACE"] : []) + ["NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED"], gap: 5)
        for waypoint in waypoints {
            table.add(
                (isAll ? [waypoint.namespace] : []) + [
                    waypoint.name, waypoint.labels[Waypoint.revisionLabel] ?? "default",
                    // What a waypoint without the label serves.
                    waypoint.labels[Waypoint.forLabel] ?? "service", waypoint.condition("Programmed") ?? "False",
                ])
        }
        table.print(self.output)
    }
}

/// `waypoint status`: one table, after the wait.
package struct WaypointStatus: Sendable {
    package let cluster: any KubeCluster
    /// Nil: all.
    package let namespace: String?
    /// Empty: every waypoint.
    package let names: [String]
    /// Nil: as it is now.
    package let wait: Duration?
    package let output: Output

    package init(cluster: any KubeCluster, namespace: String?, names: [String], wait: Duration?, output: Output) {
        self.cluster = cluster
        self.namespace = namespace
        self.names = names
        self.wait = wait
        self.output = output
    }

    package func run() async throws {
        let result = try await WaypointWait(
            cluster: self.cluster, limit: self.wait ?? .zero,
            output: self.wait == nil ? Output(line: { _ in }, notice: { _ in }) : self.output
        ).run(self.read)
        guard !result.waypoints.isEmpty else {
            self.output.line("No waypoints found.")
            return
        }
        let isAll = self.namespace == nil
        var table = Table((isAll ? ["NAMESPACE"] : []) + ["NAME", "STATUS", "TYPE", "REASON", "MESSAGE"], gap: 5)
        for waypoint in result.waypoints {
            let condition = GatewayCondition(of: waypoint)
            table.add(
                (isAll ? [waypoint.namespace] : []) + [
                    waypoint.name, condition.status, condition.type, condition.reason, condition.message,
                ])
        }
        table.print(self.output)
        if let wait, let trouble = result.trouble {
            throw CommandError("not all waypoints were programmed within \(wait.brief): \(trouble)")
        }
    }

    private func read() async throws -> [KubeObject] {
        let all = try await Waypoint.list(self.cluster, namespace: self.namespace)
        if self.names.isEmpty { return all }
        for name in self.names where !all.contains(where: { $0.name == name }) {
            throw CommandError("there is no waypoint \(self.namespace.map { "\($0)/" } ?? "")\(name)")
        }
        return all.filter { self.names.contains($0.name) }
    }
}
