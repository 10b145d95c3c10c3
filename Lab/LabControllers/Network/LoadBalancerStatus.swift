package import KubeAPI

/// Gives Services of type LoadBalancer the addresses of the ready nodes: every node forwards the Service's ports, as
/// the service load balancer of k3s does.
package struct LoadBalancerStatus: Controller {
    private let context: ControllerContext
    package init(_ context: ControllerContext) { self.context = context }

    package var name: String { "service-lb-controller" }

    package var concerns: [Concern] {
        let services = self.context.view.cache(.services)
        return [
            .each(.services),
            Concern(.nodes) { _ in
                services.list().filter { $0.spec["type"]?.string == "LoadBalancer" }.map { ObjectKey($0) }
            },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        guard let service = self.context.view.cache(.services).get(key),
            let changed = Self.plan(service, nodes: self.context.view.cache(.nodes).list())
        else { return nil }
        try await self.context.perform([.replaceStatus(.services, changed)])
        return nil
    }

    /// The Service with another status, or nil when it is right.
    package static func plan(_ service: KubeObject, nodes: [KubeObject]) -> KubeObject? {
        guard !service.isBeingDeleted else { return nil }
        let isOurs =
            service.spec["type"]?.string == "LoadBalancer"
            // Another class is for somebody else to serve.
            && service.spec["loadBalancerClass"]?.string == nil
        let before = service.status.at("loadBalancer", "ingress")?.array ?? []
        if !isOurs, service.spec["type"]?.string == "LoadBalancer" { return nil }
        let addresses = nodes.filter { $0.condition("Ready") == "True" && !$0.isBeingDeleted }.compactMap(Self.address)
        let ingress: [JSONValue] = isOurs ? addresses.map { ["ip": .string($0), "ipMode": "VIP"] } : []
        guard ingress != before else { return nil }
        var changed = service
        changed.set("status", "loadBalancer", to: ingress.isEmpty ? [:] : ["ingress": .array(ingress)])
        return changed
    }

    package static func address(_ node: KubeObject) -> String? {
        node.status["addresses"]?.array?.first { $0["type"]?.string == "InternalIP" }?["address"]?.string
    }
}
