package import MeshCertificates
internal import MeshDirectory
internal import MeshExchange
package import MeshIdentity
internal import MeshModel
internal import MeshRoutes
internal import MeshTelemetry

/// `GET /config_dump`: everything a waypoint knows and does. `?view=` shows a part, in words that people know from
/// proxies: listeners are what is served, routes what is done with it, clusters where it goes.
package struct WaypointDump {
    package enum View: String, CaseIterable, Sendable { case all, listeners, routes, clusters, endpoints, secrets }

    static let usage =
        "wanted ?view=" + View.allCases.map(\.rawValue).joined(separator: ", ") + ", or nothing\n"

    /// Nil: the mesh is not known yet.
    let snapshot: WaypointSnapshot?
    let certificates: [(identity: WorkloadIdentity, state: CertificateLedger.State)]
    let configuration: WaypointConfiguration
    let version: String

    package init(
        snapshot: WaypointSnapshot?, certificates: [(identity: WorkloadIdentity, state: CertificateLedger.State)],
        configuration: WaypointConfiguration, version: String
    ) {
        self.snapshot = snapshot
        self.certificates = certificates
        self.configuration = configuration
        self.version = version
    }

    package func json(_ view: View) -> [UInt8] {
        var json = JSONText()
        json.object { json in
            func shows(_ wanted: View) -> Bool { view == .all || view == wanted }
            if view == .all {
                json.member("version", self.version)
                json.object("config") { self.configuration.write(&$0) }
                json.object("waypoint") { self.writeWaypoint(&$0) }
            }
            if shows(.listeners) { json.array("listeners") { self.writeListeners(&$0) } }
            if shows(.routes) { json.array("routes") { self.writeRoutes(&$0) } }
            if shows(.clusters) { json.array("clusters") { self.writeClusters(&$0) } }
            if shows(.endpoints) { json.array("endpoints") { self.writeEndpoints(&$0) } }
            if shows(.secrets) { json.array("secrets") { self.writeSecrets(&$0) } }
        }
        return json.bytes
    }

    private func writeWaypoint(_ json: inout JSONText) {
        guard let rules = self.snapshot?.picture.waypoint else { return json.member("known", false) }
        json.member("known", true)
        json.member("name", rules.key.description)
        json.member("trafficType", "\(rules.trafficType)")
        Self.write(rules.gate, &json)
        json.object("telemetry") { json in
            json.member("accessLog", rules.telemetry.isAccessLogEnabled)
            if let style = rules.telemetry.accessLog {
                json.member("accessLogEncoding", style.encoding == .json ? "JSON" : "TEXT")
                if let format = style.format { json.member("accessLogFormat", format) }
            }
            json.member("tracePercent", "\(rules.telemetry.tracePercent)")
            if let collector = rules.telemetry.traceCollector {
                json.member("traceCollector", collector)
            } else {
                json.null("traceCollector")
            }
        }
    }

    /// The services of our rules that the mesh knows, with their rules.
    private var served: [(service: Service, rules: ServiceRules)] {
        guard let snapshot else { return [] }
        return snapshot.picture.allRules.compactMap { rules in
            snapshot.state.service(rules.key).map { ($0.service, rules) }
        }
    }

    private func writeListeners(_ json: inout JSONText) {
        json.object { json in
            json.member("name", "hbone")
            json.member("port", self.configuration.hbonePort)
            json.member("protocol", "HBONE")
        }
        for (service, rules) in self.served {
            for port in service.ports.sorted(by: { $0.port < $1.port }) {
                json.object { json in
                    json.member("service", service.key.description)
                    json.member("addresses", service.addresses.map(self.text))
                    json.member("port", port.port)
                    json.member("protocol", "\(port.appProtocol)")
                    Self.write(rules.gate, &json)
                }
            }
        }
    }

    /// Addresses of our own network go without its name.
    private func text(_ address: NetworkAddress) -> String {
        address.network == self.configuration.network ? address.address.description : address.description
    }

    private func writeRoutes(_ json: inout JSONText) {
        for (service, rules) in self.served {
            for route in rules.routes {
                json.object { json in
                    json.member("service", service.key.description)
                    json.member("name", route.name.description)
                    json.member("kind", route.kind == .grpc ? "GRPCRoute" : "HTTPRoute")
                    if let port = route.port { json.member("port", port) } else { json.null("port") }
                    json.array("rules") { json in
                        for rule in route.rules { json.object { Self.write(rule, &$0) } }
                    }
                }
            }
            for route in rules.streams {
                json.object { json in
                    json.member("service", service.key.description)
                    json.member("name", route.name.description)
                    json.member("kind", route.isTLS ? "TLSRoute" : "TCPRoute")
                    if let port = route.port { json.member("port", port) } else { json.null("port") }
                    json.member("serverNames", route.serverNames)
                    json.array("backends") { json in
                        for backend in route.backends {
                            json.object { Self.write(backend.destination, weight: backend.weight, &$0) }
                        }
                    }
                }
            }
        }
    }

    private func writeClusters(_ json: inout JSONText) {
        for (service, rules) in self.served {
            for port in service.ports.sorted(by: { $0.port < $1.port }) {
                json.object { json in
                    json.member("name", "inbound-vip|\(port.port)|http|\(service.hostname)")
                    json.member("service", service.key.description)
                    json.member("port", port.port)
                    json.member("balancing", "\(rules.balancing.choice)")
                    json.member("retryBudgetPercent", rules.balancing.retryBudgetPercent)
                    json.member(
                        "endpoints", self.snapshot?.backends.find(service.key, port.port)?.endpoints.count ?? 0)
                }
            }
        }
    }

    private func writeEndpoints(_ json: inout JSONText) {
        for (service, _) in self.served {
            for port in service.ports.sorted(by: { $0.port < $1.port }) {
                guard let backend = self.snapshot?.backends.find(service.key, port.port) else { continue }
                for endpoint in backend.endpoints {
                    json.object { json in
                        json.member("cluster", "inbound-vip|\(port.port)|http|\(service.hostname)")
                        json.member("workload", endpoint.workload)
                        json.member(
                            "address",
                            endpoint.key.host.map { "\($0):\(endpoint.key.address.port)" }
                                ?? endpoint.key.address.description)
                        json.member(
                            "protocol",
                            endpoint.route.map { $0.inner == nil ? "HBONE" : "DOUBLEHBONE" } ?? "TCP")
                        json.member("identities", endpoint.key.expected.map(\.description))
                        json.member("priority", endpoint.priority)
                        json.member("weight", endpoint.weight)
                    }
                }
            }
        }
    }

    private func writeSecrets(_ json: inout JSONText) {
        for (identity, state) in self.certificates {
            json.object { json in
                json.member("identity", identity.description)
                var chain: [[UInt8]] = []
                switch state {
                case .initializing: json.member("state", "Initializing")
                case .unavailable(let reason): json.member("state", "Unavailable: \(reason)")
                case .available(let certificate, _):
                    json.member("state", "Available")
                    chain = certificate.chain
                }
                json.array("certChain") { json in
                    for summary in chain.compactMap(CertificateSummary.init(der:)) {
                        json.object { json in
                            json.member("serialNumber", summary.serialNumber)
                            json.member("validFrom", summary.validFrom)
                            json.member("expirationTime", summary.expirationTime)
                        }
                    }
                }
            }
        }
    }
}
