internal import MeshCertificates
internal import MeshDirectory
internal import MeshModel
internal import MeshTelemetry
internal import MeshTunnel

extension ConfigDump {
    // MARK: Policies

    static func write(_ policy: AuthorizationPolicy, _ json: inout JSONText) {
        json.member("name", policy.key.name)
        json.member("namespace", policy.key.namespace)
        switch policy.scope {
        case .global: json.member("scope", "Global")
        case .namespace: json.member("scope", "Namespace")
        case .workloadSelector: json.member("scope", "WorkloadSelector")
        }
        json.member("action", policy.action == .deny ? "Deny" : "Allow")
        json.array("rules") { json in
            for rule in policy.rules {
                json.array { json in
                    for clause in rule.clauses {
                        json.array { json in for match in clause.matches { json.object { Self.write(match, &$0) } } }
                    }
                }
            }
        }
        json.member("dryRun", policy.isDryRun)
    }

    /// Attributes that are not used are left out.
    private static func write(_ match: AuthorizationPolicy.Match, _ json: inout JSONText) {
        func texts(_ key: String, _ values: [AuthorizationPolicy.StringMatch]) {
            if values.isEmpty { return }
            json.array(key) { json in
                for value in values {
                    switch value {
                    case .exact(let text): json.object { $0.member("Exact", text) }
                    case .prefix(let text): json.object { $0.member("Prefix", text) }
                    case .suffix(let text): json.object { $0.member("Suffix", text) }
                    case .presence: json.object { $0.object("Presence") { _ in } }
                    }
                }
            }
        }
        func accounts(_ key: String, _ values: [AuthorizationPolicy.ServiceAccountMatch]) {
            if values.isEmpty { return }
            json.array(key) { json in
                for value in values {
                    json.object { json in
                        json.member("namespace", value.namespace)
                        json.member("serviceAccount", value.serviceAccount)
                    }
                }
            }
        }
        func blocks(_ key: String, _ values: [CIDR]) {
            if !values.isEmpty { json.member(key, values.map(\.description)) }
        }
        func ports(_ key: String, _ values: [UInt16]) {
            if !values.isEmpty { json.array(key) { json in for value in values { json.element(value) } } }
        }
        texts("namespaces", match.namespaces)
        texts("notNamespaces", match.notNamespaces)
        accounts("serviceAccounts", match.serviceAccounts)
        accounts("notServiceAccounts", match.notServiceAccounts)
        texts("principals", match.principals)
        texts("notPrincipals", match.notPrincipals)
        blocks("sourceIps", match.sourceIPs)
        blocks("notSourceIps", match.notSourceIPs)
        blocks("destinationIps", match.destinationIPs)
        blocks("notDestinationIps", match.notDestinationIPs)
        ports("destinationPorts", match.destinationPorts)
        ports("notDestinationPorts", match.notDestinationPorts)
    }

    // MARK: Certificates

    static func write(_ state: CertificateLedger.State, _ identity: String, _ json: inout JSONText) {
        json.member("identity", identity)
        var chain: [[UInt8]] = []
        var roots: [[UInt8]] = []
        switch state {
        case .initializing: json.member("state", "Initializing")
        case .unavailable(let reason): json.member("state", "Unavailable: \(reason)")
        case .available(let certificate, _):
            json.member("state", "Available")
            chain = certificate.chain
            roots = certificate.roots
        }
        Self.write("certChain", chain, &json)
        Self.write("rootCerts", roots, &json)
    }

    private static func write(_ key: String, _ certificates: [[UInt8]], _ json: inout JSONText) {
        json.array(key) { json in
            for summary in certificates.compactMap(CertificateSummary.init(der:)) {
                json.object { json in
                    json.member("pem", summary.pem)
                    json.member("serialNumber", summary.serialNumber)
                    json.member("validFrom", summary.validFrom)
                    json.member("expirationTime", summary.expirationTime)
                }
            }
        }
    }

    // MARK: Pods and their connections

    static func write(_ listed: PodEnrolment.Listed, _ connections: [ConnectionRecord], _ json: inout JSONText) {
        json.member("state", listed.isUp ? "Up" : "Pending")
        json.object("connections") { json in
            for direction in [ConnectionRecord.Direction.inbound, .outbound] {
                json.array(direction.rawValue) { json in
                    for record in connections where record.direction == direction {
                        json.object { Self.write(record, &$0) }
                    }
                }
            }
        }
        json.object("info") { json in
            json.member("name", listed.pod.name)
            json.member("namespace", listed.pod.namespace)
            json.member("trustDomain", listed.trustDomain)
            json.member("serviceAccount", listed.pod.serviceAccount)
        }
    }

    private static func write(_ record: ConnectionRecord, _ json: inout JSONText) {
        json.member("src", record.source.description)
        switch record.direction {
        case .outbound: json.member("originalDst", record.originalDestination.description)
        case .inbound:
            // The service that the client named, when it is known.
            let service = (record.labels as? FlowLabels)?.flow.service?.hostname
            json.member("originalDst", service ?? record.authority ?? record.originalDestination.description)
        }
        json.member("actualDst", record.destination.description)
        json.member("protocol", record.transport.rawValue)
    }
}
