package import KubeAPI
package import KubeClient

/// Waits for waypoints to be programmed, and says on the way what each lacks.
package struct WaypointWait: Sendable {
    package let cluster: any KubeCluster
    package let limit: Duration
    package let output: Output

    package init(cluster: any KubeCluster, limit: Duration, output: Output) {
        self.cluster = cluster
        self.limit = limit
        self.output = output
    }

    /// A waypoint is expected within 2 s, so a look a second would be most of the wait.
    private static let pollInterval = Duration.milliseconds(200)

    /// - Parameter read: the waypoints, asked again and again.
    /// - Returns: their last state, and why some of them are not programmed; nil when all are.
    package func run(
        _ read: () async throws -> [KubeObject]
    ) async throws -> (waypoints: [KubeObject], trouble: String?) {
        let started = ContinuousClock.now
        var said: String?
        while true {
            let waypoints = try await read()
            var missing: [String] = []
            for waypoint in waypoints where !GatewayCondition(of: waypoint).isProgrammed {
                missing.append("\(waypoint.key): \(try await self.reason(waypoint))")
            }
            if missing.isEmpty { return (waypoints, nil) }
            let trouble = missing.joined(separator: "; ")
            guard ContinuousClock.now - started < self.limit else { return (waypoints, trouble) }
            if said != trouble { self.output.notice("waiting for \(trouble)") }
            said = trouble
            try await Task.sleep(for: Self.pollInterval)
        }
    }

    /// What the condition says, and of its pods what keeps them from being ready.
    private func reason(_ waypoint: KubeObject) async throws -> String {
        var text = GatewayCondition(of: waypoint).trouble
        let pods = try await self.cluster.list(
            .pods, namespace: waypoint.namespace,
            ListOptions(labelSelector: "gateway.networking.k8s.io/gateway-name=\(waypoint.name)"))
        for pod in pods.items.sorted(by: { $0.name < $1.name }) {
            if let trouble = Readiness.trouble(of: pod) { text += "; pod \(pod.name): \(trouble)" }
        }
        return text
    }
}
