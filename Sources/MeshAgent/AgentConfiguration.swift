internal import Foundation
package import MeshChannel
package import MeshIdentity
package import MeshProcess
package import MeshTelemetry
package import MeshXDS

/// Every choice of the agent beside Envoy. The environment and the arguments are read here and nowhere else; names that our
/// own waypoint has too mean the same. docs/envoy-waypoints.md and docs/envoy-sidecars.md list them.
package struct AgentConfiguration: Sendable {
    /// What Envoy is: the first argument.
    package enum Role: Hashable, Sendable {
        /// Of this Gateway (`GATEWAY_NAME`).
        case waypoint(gateway: String)
        /// Of our own pod.
        case sidecar
    }
    package var role: Role
    package var podNamespace: String
    package var serviceAccount: String
    package var trustDomain = "cluster.local"
    package var podName = ""
    package var instanceIP = ""
    package var nodeName = ""
    package var clusterID = "Kubernetes"
    package var clusterDomain = "cluster.local"
    package var serviceCluster: String
    package var xds: ControlPlaneEndpoint
    package var ca: ControlPlaneEndpoint
    package var metadata: [String: MetadataValue] = [:]
    package var certificateValidity = Duration.seconds(86_400)
    package var isIPv6Enabled = true
    package var drainDeadline = Duration.seconds(5)
    package var logFormat = LogLine.Format.plain
    package var logDirectives = LogDirectives()
    /// `--proxyLogLevel`, `--proxyComponentLogLevel`: of Envoy.
    package var envoyLogLevel = "warning"
    /// `misc` warns of every message that Envoy calls unfinished, with each listener anew.
    package var envoyComponentLogLevel = "misc:error"
    /// `--concurrency`, or `ENVOY_CONCURRENCY`: worker threads of Envoy.
    package var concurrency = 2
    /// `ENVOY_PATH`
    package var envoyPath = "/usr/local/bin/envoy"
    /// `PROXY_DIRECTORY`: ours alone; holds the bootstrap and the socket.
    package var directory = "/etc/istio/proxy"
    package var readinessPort = 15021
    package var statsPort = 15020
    package var adminPort = 15000
    /// Of sidecars: Envoy's own metrics, from itself.
    package var envoyStatsPort = 15090
    /// Of sidecars: what is asked of the application instead of the pod, by path (`ISTIO_KUBE_APP_PROBERS`).
    package var probes: [String: AppProbe] = [:]
    /// Of sidecars: where the application's metrics are (`ISTIO_PROMETHEUS_ANNOTATIONS`); nil: nowhere.
    package var scrape: AppScrape?
    /// Of sidecars: the pod's labels.
    package var labels: [String: String] = [:]
    /// Of sidecars: the application's questions for names come to us (`ISTIO_META_DNS_CAPTURE`).
    package var capturesNames = false
    /// Where the pod's packet rules lead them; 0 takes a free one.
    package var namesPort: UInt16 = 15053
    /// The pod's own.
    package var resolverFile = "/etc/resolv.conf"

    /// - Parameters:
    ///   - arguments: after `proxy`: `waypoint` or `sidecar`, and options as Istio's templates write them.
    ///   - fileExists: for settings that are a path or a text.
    ///   - contents: of a file.
    /// - Throws: ``InvalidSetting`` for the first value that cannot be used.
    package init(
        environment: [String: String], arguments: [String],
        fileExists: (String) -> Bool = { FileManager.default.fileExists(atPath: $0) },
        contents: (String) -> [UInt8]? = { FileManager.default.contents(atPath: $0).map(Array.init) }
    ) throws(InvalidSetting) {
        let reader = EnvironmentReader(variables: environment)
        switch arguments.first {
        case "waypoint":
            let name = try Self.required(
                "GATEWAY_NAME", "the name of the Gateway that this waypoint is for", reader)
            self.role = .waypoint(gateway: name)
        case "sidecar": self.role = .sidecar
        default:
            throw InvalidSetting(
                "argument", arguments.first ?? "",
                wanted: "waypoint or sidecar: the mesh runs Envoy in no other role")
        }
        self.podNamespace = try Self.required("POD_NAMESPACE", "the namespace of our pod and of its Gateway", reader)
        self.serviceAccount = try Self.required("SERVICE_ACCOUNT", "the service account of our pod", reader)
        switch self.role {
        case .waypoint(let gateway): self.serviceCluster = "\(gateway).\(self.podNamespace)"
        case .sidecar:
            let workload = reader.text("ISTIO_META_WORKLOAD_NAME") ?? reader.text("POD_NAME") ?? ""
            self.serviceCluster = "\(workload).\(self.podNamespace)"
        }
        self.clusterID = reader.text("ISTIO_META_CLUSTER_ID") ?? reader.text("CLUSTER_ID") ?? self.clusterID
        let token = try reader.token(fileExists)
        self.xds = try reader.endpoint("XDS", token: token, clusterID: self.clusterID, fileExists)
        self.ca = try reader.endpoint("CA", token: token, clusterID: self.clusterID, fileExists)
        if let text = reader.text("TRUST_DOMAIN") {
            guard (try? WorkloadIdentity(spiffe: "spiffe://\(text)/ns/a/sa/b"))?.trustDomain == text else {
                throw InvalidSetting("TRUST_DOMAIN", text, wanted: "a trust domain such as cluster.local")
            }
            self.trustDomain = text
        }
        self.podName = reader.text("POD_NAME") ?? ""
        self.instanceIP = reader.text("INSTANCE_IP") ?? ""
        self.nodeName = reader.text("NODE_NAME") ?? ""
        self.clusterDomain = reader.text("CLUSTER_DOMAIN") ?? self.clusterDomain
        self.metadata = try reader.metadata()
        self.certificateValidity = try reader.duration("SECRET_TTL") ?? self.certificateValidity
        self.isIPv6Enabled = try reader.flag("IPV6_ENABLED") ?? true
        self.drainDeadline = try reader.drainDeadline()
        self.concurrency = try reader.number("ENVOY_CONCURRENCY", in: 1...1024) ?? self.concurrency
        self.envoyPath = reader.text("ENVOY_PATH") ?? self.envoyPath
        self.directory = reader.text("PROXY_DIRECTORY") ?? self.directory
        try reader.logging(&self.logFormat, &self.logDirectives)
        try self.read(arguments.dropFirst())
        if self.role == .sidecar { try self.readSidecar(reader, contents) }
    }

    private static let levels: Set<String> = ["trace", "debug", "info", "warning", "error", "critical", "off"]

    private mutating func read(_ arguments: ArraySlice<String>) throws(InvalidSetting) {
        var rest = arguments
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            guard let name = parts.first, let value = parts.count == 2 ? parts[1] : rest.popFirst() else {
                throw InvalidSetting("argument", argument, wanted: "a value with it")
            }
            switch name {
            case "--domain":
                let suffix = "\(self.podNamespace).svc."
                guard value.hasPrefix(suffix), value.count > suffix.count else {
                    throw InvalidSetting(name, value, wanted: "\(suffix)<domain of the cluster>")
                }
                self.clusterDomain = String(value.dropFirst(suffix.count))
            case "--serviceCluster": self.serviceCluster = value
            case "--proxyLogLevel":
                guard Self.levels.contains(value) else {
                    throw InvalidSetting(name, value, wanted: Self.levels.sorted().joined(separator: ", "))
                }
                self.envoyLogLevel = value
            case "--proxyComponentLogLevel": self.envoyComponentLogLevel = value
            case "--log_output_level":
                do throws(InvalidLogDirective) { try self.logDirectives.merge(Self.directives(value)) } catch {
                    throw InvalidSetting(name, value, wanted: "\(error)")
                }
            case "--concurrency":
                guard let number = Int(value), (1...1024).contains(number) else {
                    throw InvalidSetting(name, value, wanted: "a number of threads from 1 to 1024")
                }
                self.concurrency = number
            default:
                throw InvalidSetting(
                    "argument", name,
                    wanted: "--domain, --serviceCluster, --proxyLogLevel, --proxyComponentLogLevel, --log_output_level"
                        + " or --concurrency")
            }
        }
    }

    /// Istio writes `default:info,xds:debug`.
    private static func directives(_ text: String) -> String {
        text.split(separator: ",").map { part in
            part.hasPrefix("default:")
                ? String(part.dropFirst("default:".count)) : String(part.map { $0 == ":" ? "=" : $0 })
        }.joined(separator: ",")
    }

    static func required(
        _ name: String, _ wanted: String, _ reader: EnvironmentReader
    ) throws(InvalidSetting) -> String {
        guard let text = reader.text(name) else { throw InvalidSetting(name, "", wanted: wanted) }
        guard !text.contains("/"), !text.contains(" ") else { throw InvalidSetting(name, text, wanted: wanted) }
        return text
    }
}

// What is made of them.

extension AgentConfiguration {
    /// Whose Envoy it is, for people.
    var subject: String {
        switch self.role {
        case .waypoint(let gateway): "waypoint \(self.podNamespace)/\(gateway)"
        case .sidecar: "sidecar of \(self.podNamespace)/\(self.podName)"
        }
    }

    package var identity: WorkloadIdentity {
        WorkloadIdentity(
            trustDomain: self.trustDomain, namespace: self.podNamespace, serviceAccount: self.serviceAccount)
    }

    /// Of our side of the conversation with Envoy.
    package var socketPath: String { "\(self.directory)/agent.sock" }
    package var bootstrapPath: String { "\(self.directory)/envoy-rev.json" }
    /// Where Envoy writes which address its admin port has.
    var adminAddressPath: String { "\(self.directory)/admin-address" }
}
