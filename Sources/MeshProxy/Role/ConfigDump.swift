package import MeshCertificates
internal import MeshDirectory
internal import MeshModel
internal import MeshTelemetry
package import MeshTunnel

/// `GET /config_dump`: everything this proxy knows and does, in the shape that `istioctl ztunnel-config` reads.
package struct ConfigDump: Sendable {
    package var snapshot: MeshSnapshot
    package var certificates: [(state: CertificateLedger.State, identity: String)]
    package var pods: [PodEnrolment.Listed]
    package var connections: [ConnectionRecord]
    package var configuration: ProxyConfiguration
    package var version: String

    package init(
        snapshot: MeshSnapshot, certificates: [(state: CertificateLedger.State, identity: String)],
        pods: [PodEnrolment.Listed], connections: [ConnectionRecord], configuration: ProxyConfiguration,
        version: String
    ) {
        self.snapshot = snapshot
        self.certificates = certificates
        self.pods = pods
        self.connections = connections
        self.configuration = configuration
        self.version = version
    }

    package var json: [UInt8] {
        var json = JSONText()
        json.object { json in
            json.array("workloads") { json in
                for entry in self.snapshot.state.allWorkloads.sorted(by: { $0.workload.uid < $1.workload.uid }) {
                    json.object { Self.write(entry.workload, &$0) }
                }
            }
            json.array("services") { json in
                let sorted = self.snapshot.state.allServices.sorted { $0.key.description < $1.key.description }
                for entry in sorted { json.object { self.write(entry.service, &$0) } }
            }
            json.array("policies") { json in
                for policy in self.snapshot.state.policies.all.sorted(by: { $0.key.description < $1.key.description }) {
                    json.object { Self.write(policy, &$0) }
                }
            }
            json.object("stagedServices") { json in
                let staged = self.snapshot.state.stagedServices.sorted { $0.key.description < $1.key.description }
                for (key, uids) in staged { json.member(key.description, uids.sorted()) }
            }
            json.object("staticConfig") { _ in }
            json.object("version") { json in
                json.member("version", self.version)
                json.member("buildStatus", "martlet")
                json.member("cryptoProvider", "boringssl")
            }
            json.object("config") { self.configuration.write(&$0) }
            json.array("certificates") { json in
                for (state, identity) in self.certificates {
                    json.object { Self.write(state, identity, &$0) }
                }
            }
            json.object("workloadState") { json in
                let byPod = Dictionary(grouping: self.connections, by: \.pod.uid)
                for pod in self.pods { json.object(pod.pod.uid) { Self.write(pod, byPod[pod.pod.uid] ?? [], &$0) } }
            }
        }
        return json.bytes
    }

    // MARK: The mesh

    private static func write(_ workload: Workload, _ json: inout JSONText) {
        json.member("workloadIps", workload.addresses.map(\.description))
        Self.write("waypoint", workload.waypoint, &json)
        Self.write("networkGateway", workload.networkGateway, &json)
        json.member("protocol", workload.tunnelProtocol == .hbone ? "HBONE" : "TCP")
        json.member("networkMode", workload.networkMode == .hostNetwork ? "HostNetwork" : "Standard")
        json.member("uid", workload.uid)
        json.member("name", workload.name)
        json.member("namespace", workload.namespace)
        json.member("trustDomain", workload.trustDomain)
        json.member("serviceAccount", workload.serviceAccount)
        json.member("network", workload.network)
        json.member("workloadName", workload.workloadName)
        json.member("workloadType", workload.kind.baggageName)
        json.member("canonicalName", workload.canonicalName)
        json.member("canonicalRevision", workload.canonicalRevision)
        json.member("hostname", workload.hostname)
        json.member("node", workload.node)
        json.member("nativeTunnel", workload.isNativeTunnel)
        if let tunnel = workload.applicationTunnel {
            json.object("applicationTunnel") { json in
                json.member("protocol", tunnel.handoff == .proxyProtocol ? "PROXY" : "NONE")
                if let port = tunnel.port { json.member("port", port) } else { json.null("port") }
            }
        }
        json.member("authorizationPolicies", workload.authorizationPolicies.map(\.description))
        json.member("status", workload.isHealthy ? "Healthy" : "Unhealthy")
        json.member("clusterId", workload.clusterID)
        json.object("locality") { json in
            json.member("region", workload.locality.region)
            json.member("zone", workload.locality.zone)
            json.member("subzone", workload.locality.subzone)
        }
        json.member("services", workload.services.keys.map(\.description).sorted())
        json.member("capacity", workload.capacity)
    }

    private func write(_ service: Service, _ json: inout JSONText) {
        json.member("name", service.name)
        json.member("namespace", service.namespace)
        json.member("hostname", service.hostname)
        json.member("vips", service.addresses.map(\.description))
        json.array("cidrVips") { json in
            for block in service.blocks {
                json.object { json in
                    json.member("network", block.network)
                    json.member("cidr", block.cidr.description)
                }
            }
        }
        Self.write("ports", service.ports, &json)
        json.object("endpoints") { json in
            let endpoints = self.snapshot.state.endpoints(of: service.key).sorted { $0.uid < $1.uid }
            for (uid, endpoint) in endpoints {
                json.object(uid) { json in
                    json.member("workloadUid", uid)
                    Self.write("port", endpoint.ports, &json)
                    json.member("status", endpoint.workload.workload.isHealthy ? "Healthy" : "Unhealthy")
                }
            }
        }
        json.member("subjectAltNames", service.subjectAltNames)
        Self.write("waypoint", service.waypoint, &json)
        if !service.weightedWaypoints.isEmpty {
            json.array("weightedWaypoints") { json in
                for weighted in service.weightedWaypoints {
                    json.object { json in
                        Self.write("destination", weighted.destination, &json)
                        json.member("weight", weighted.weight)
                    }
                }
            }
        }
        json.object("loadBalancer") { json in
            json.member("routingPreferences", service.loadBalancing.routingPreference.map(Self.text))
            json.member("mode", Self.text(service.loadBalancing.mode))
            json.member(
                "healthPolicy", service.loadBalancing.healthPolicy == .allowAll ? "AllowAll" : "OnlyHealthy")
        }
        switch service.ipFamilies {
        case .automatic: json.null("ipFamilies")
        case .v4Only: json.member("ipFamilies", "IPv4")
        case .v6Only: json.member("ipFamilies", "IPv6")
        case .dual: json.member("ipFamilies", "Dual")
        }
        json.member("canonical", service.isCanonical)
        json.member("visibility", service.visibility == .namespace ? "Namespace" : "Public")
    }

    private static func write(_ key: String, _ ports: [ServicePort], _ json: inout JSONText) {
        json.object(key) { json in
            for port in ports.sorted(by: { $0.port < $1.port }) { json.member("\(port.port)", port.targetPort) }
        }
    }

    private static func write(_ key: String, _ gateway: GatewayAddress?, _ json: inout JSONText) {
        guard let gateway else { return }
        json.object(key) { json in
            json.member("destination", gateway.text)
            json.member("hboneMtlsPort", gateway.hbonePort)
        }
    }

    private static func text(_ scope: LoadBalancing.Scope) -> String {
        switch scope {
        case .region: "Region"
        case .zone: "Zone"
        case .subzone: "Subzone"
        case .node: "Node"
        case .cluster: "Cluster"
        case .network: "Network"
        }
    }

    private static func text(_ mode: LoadBalancing.Mode) -> String {
        switch mode {
        case .standard: "Standard"
        case .strict: "Strict"
        case .failover: "Failover"
        case .passthrough: "Passthrough"
        }
    }
}
