package import KubeAPI
package import MeshModel

/// A Gateway that workloads and services can name as their layer-7 proxy: one that has an address.
package struct Waypoint: Hashable, Sendable {
    /// What it takes (`istio.io/waypoint-for`); `unknown` is a word that we cannot read.
    package enum Traffic: String, Hashable, Sendable { case service, workload, all, none, unknown }
    /// Whose objects may attach (`allowedRoutes.namespaces`).
    package enum Attachment: Hashable, Sendable {
        case sameNamespace, everywhere
        case namespaces(LabelSelector)
        /// `None`, or a selector that cannot be read.
        case nobody
    }

    package var key: NamespacedName
    package var address: GatewayAddress
    package var traffic: Traffic
    package var attachment: Attachment
    /// How its pods want to receive connections; nil when the annotation is missing or makes no sense.
    package var tunnel: ApplicationTunnel?

    /// Istio's waypoints listen nowhere else.
    static let hbonePort: UInt16 = 15008

    /// Nil while the Gateway has no address.
    package init?(_ gateway: GatewayView, class gatewayClass: GatewayClassView?, network: String) {
        guard let destination = Self.destination(gateway.statusAddresses, gateway.namespace, network) else {
            return nil
        }
        self.key = NamespacedName(namespace: gateway.namespace, name: gateway.name)
        self.address = GatewayAddress(destination: destination, hbonePort: Self.hbonePort)
        self.traffic = Self.traffic(of: gateway, gatewayClass)
        self.tunnel = Self.tunnel(of: gateway, gatewayClass)
        let tunnel = self.tunnel
        let listener = gateway.listeners.first { listener in
            guard let tunnel else { return listener.protocolName == "HBONE" && listener.port == 15008 }
            return tunnel.port.map { Int64($0) == listener.port } ?? false
                || listener.protocolName == "istio.io/PROXY"
        }
        switch listener?.from {
        case "All": self.attachment = .everywhere
        case "Selector":
            do throws(LabelSelector.Invalid) {
                self.attachment = .namespaces(try LabelSelector(listener?.selector ?? [:]))
            } catch {
                self.attachment = .nobody
            }
        case "Same", nil: self.attachment = .sameNamespace
        default: self.attachment = .nobody
        }
    }

    static func traffic(of gateway: GatewayView, _ gatewayClass: GatewayClassView?) -> Traffic {
        let word = gateway.labels[Names.waypointFor] ?? gatewayClass?.waypointFor
        return word.map { Traffic(rawValue: $0) ?? .unknown } ?? .service
    }

    static func tunnel(of gateway: GatewayView, _ gatewayClass: GatewayClassView?) -> ApplicationTunnel? {
        (gateway.inboundBinding ?? gatewayClass?.inboundBinding).flatMap(Self.tunnel)
    }

    /// A host name is better than an address: each client then picks the family that suits it.
    static func destination(
        _ addresses: [GatewayView.Address], _ namespace: String, _ network: String
    ) -> GatewayAddress.Destination? {
        if let host = addresses.first(where: \.isHostname) {
            return .hostname(NamespacedName(namespace: namespace, name: host.value))
        }
        return addresses.lazy.compactMap { IPAddress($0.value) }.first
            .map { .address(NetworkAddress(network: network, address: $0)) }
    }

    /// `PROXY`, `PROXY/15088`, `NONE`.
    static func tunnel(_ annotation: String) -> ApplicationTunnel? {
        let parts = annotation.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2 else { return nil }
        var port: UInt16 = 0
        if parts.count == 2 {
            guard let number = UInt16(parts[1]) else { return nil }
            port = number
        }
        switch parts[0] {
        case "PROXY": return ApplicationTunnel(handoff: .proxyProtocol, port: port == 0 ? nil : port)
        case "NONE": return ApplicationTunnel(handoff: .none, port: port == 0 ? nil : port)
        default: return nil
        }
    }

    func admits(namespace: String, labels: [String: String]) -> Bool {
        switch self.attachment {
        case .sameNamespace: namespace == self.key.namespace
        case .everywhere: true
        case .namespaces(let selector): selector.matches(labels)
        case .nobody: false
        }
    }
}

/// A Gateway that is named as a waypoint and has no address yet.
package struct PendingWaypoint: Hashable, Sendable {
    package var traffic: Waypoint.Traffic
    /// The name it will have.
    package var host: String
}

/// Another network's entrance: a Gateway of a remote class, labelled with that network's name.
package struct NetworkGateway: Hashable, Sendable {
    package var network: String
    package var namespace: String
    package var serviceAccount: String
    package var destination: GatewayAddress.Destination
    /// Nil: none of its listeners speaks HBONE.
    package var hbonePort: UInt16?

    package init?(_ gateway: GatewayView, class gatewayClass: GatewayClassView?) {
        guard
            gateway.className == "istio-remote" || gatewayClass?.controllerName == GatewayClassView.remoteController,
            let network = gateway.labels[Names.network]
        else { return nil }
        let addresses = gateway.statusAddresses.isEmpty ? gateway.specAddresses : gateway.statusAddresses
        guard let destination = Waypoint.destination(addresses, gateway.namespace, network) else { return nil }
        self.network = network
        self.namespace = gateway.namespace
        self.serviceAccount = gateway.serviceAccount ?? ""
        self.destination = destination
        self.hbonePort = gateway.listeners.first { $0.protocolName == "HBONE" }
            .flatMap { UInt16(exactly: $0.port) }
    }

    package var address: GatewayAddress? {
        self.hbonePort.map { GatewayAddress(destination: self.destination, hbonePort: $0) }
    }

    /// The gateway itself, so that who follows a workload's gateway finds out whom to expect there.
    package func workload(_ settings: MeshSettings) -> Workload {
        let text: String
        switch self.destination {
        case .hostname(let name): text = name.name
        case .address(let address): text = address.address.description
        }
        var workload = Workload(uid: "NetworkGateway/\(self.network)/\(text)/\(self.hbonePort ?? 0)")
        workload.name = workload.uid
        workload.namespace = self.namespace
        workload.serviceAccount = self.serviceAccount
        workload.network = self.network
        workload.trustDomain = settings.trustDomain
        workload.clusterID = ""
        switch self.destination {
        case .hostname(let name): workload.hostname = name.name
        case .address(let address): workload.addresses = [address.address]
        }
        return workload
    }
}
