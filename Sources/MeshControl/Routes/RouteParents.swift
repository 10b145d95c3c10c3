import MeshCollections
import MeshModel

/// Finds out what a route's parent reference leads to.
struct RouteParents {
    let inputs: MeshInputs
    let gateways: GatewayCollections
    let services: ServiceCollections

    enum Outcome {
        case attached([RouteAttachment], binding: WaypointBinding?)
        case refused(reason: String, message: String)
        /// Another controller's.
        case foreign
    }

    func outcome(_ parent: RouteView.Parent, of view: RouteView, _ fetch: Fetch) -> Outcome {
        switch (parent.group, parent.kind) {
        case ("", "Service"): self.service(parent, view, fetch)
        case ("networking.istio.io", "ServiceEntry"): self.entry(parent, view, fetch)
        case ("gateway.networking.k8s.io", "Gateway"): self.gateway(parent, fetch)
        default: .foreign
        }
    }

    private func service(_ parent: RouteView.Parent, _ view: RouteView, _ fetch: Fetch) -> Outcome {
        guard let service = fetch.get(self.inputs.services, parent.key), service.isRoutable else {
            return .refused(reason: "NoMatchingParent", message: "Service \(parent.key) does not exist")
        }
        let host = ServiceBuilder.hostname(service, suffix: self.inputs.settings(fetch).domainSuffix)
        return self.attached(
            parent, view, hosts: [host], ports: service.ports.map { ($0.name, $0.number) },
            binding: fetch.get(self.services.serviceBindings, parent.key), fetch)
    }

    private func entry(_ parent: RouteView.Parent, _ view: RouteView, _ fetch: Fetch) -> Outcome {
        guard let entry = fetch.get(self.services.entries, parent.key), !entry.hosts.isEmpty else {
            return .refused(
                reason: "NoMatchingParent",
                message: "ServiceEntry \(parent.key) does not exist, or has no host of its own")
        }
        return self.attached(
            parent, view, hosts: entry.hosts.map(\.name), ports: entry.view.ports.map { ($0.name, $0.number) },
            binding: fetch.get(self.services.entryBindings, parent.key), fetch)
    }

    private func attached(
        _ parent: RouteView.Parent, _ view: RouteView, hosts: [String], ports: [(name: String, number: UInt16)],
        binding: WaypointBinding?, _ fetch: Fetch
    ) -> Outcome {
        if let waypoint = binding?.primary, self.isForeign(waypoint.key, fetch) { return .foreign }
        var port = parent.port
        if let section = parent.section {
            guard let named = ports.first(where: { $0.name == section && (port ?? $0.number) == $0.number }) else {
                return .refused(
                    reason: "NoMatchingParent", message: "\(parent.kind) \(parent.key) has no port named \(section)")
            }
            port = named.number
        } else if let port, !ports.contains(where: { $0.number == port }) {
            return .refused(reason: "NoMatchingParent", message: "\(parent.kind) \(parent.key) has no port \(port)")
        }
        // Whoever owns the service, or the waypoint that it was given to, routes for everybody.
        let isProducer =
            view.key.namespace == parent.namespace
            || view.key.namespace == binding?.primary?.key.namespace
        let attachments = hosts.map { host in
            RouteAttachment(
                service: "\(parent.namespace)/\(host)", kind: view.kind, route: view.key, createdAt: view.createdAt,
                port: port, clientNamespace: isProducer ? nil : view.key.namespace)
        }
        return .attached(attachments, binding: binding)
    }

    /// A Gateway of a class that somebody else controls.
    private func isForeign(_ key: NamespacedName, _ fetch: Fetch) -> Bool {
        guard let gateway = fetch.get(self.inputs.gateways, key.description),
            let gatewayClass = fetch.get(self.inputs.gatewayClasses, gateway.className)
        else { return false }
        return GatewayKind(gateway, class: gatewayClass) == nil && !gatewayClass.controllerName.hasPrefix("istio.io/")
    }

    private func gateway(_ parent: RouteView.Parent, _ fetch: Fetch) -> Outcome {
        guard let gateway = fetch.get(self.inputs.gateways, parent.key),
            GatewayKind(gateway, class: fetch.get(self.inputs.gatewayClasses, gateway.className))?.engine != nil
        else { return .foreign }
        return .refused(
            reason: "NotAllowedByListeners",
            message: "Gateway \(parent.key) is a waypoint; attach the route to the Services that it serves")
    }
}
