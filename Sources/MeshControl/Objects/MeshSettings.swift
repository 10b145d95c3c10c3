package import KubeAPI
import KubeClient
package import MeshModel

/// What the whole mesh agrees on: from the ConfigMap `istio`, key `mesh`, and from our own environment.
package struct MeshSettings: Hashable, Sendable {
    package var trustDomain = "cluster.local"
    /// Other trust domains that mean this mesh.
    package var trustDomainAliases: [String] = []
    package var rootNamespace = "istio-system"
    /// Where the control plane itself runs.
    package var controlPlaneNamespace = "istio-system"
    package var clusterID = "Kubernetes"
    package var domainSuffix = "cluster.local"
    package var revision = "default"
    package var allowsDryRun = false
    /// Workloads behind a waypoint accept only what comes through it (`PILOT_AUTO_ALLOW_WAYPOINT_POLICY`).
    package var requiresWaypoints = false
    /// MeshConfig `serviceEntryVisibility`; nil when it says nothing.
    package var entryVisibility: VisibilityRules?
    /// What the proxies that we deploy run.
    package var waypoints = WaypointInstallation()
    /// MeshConfig `extensionProviders` of the kind `opentelemetry`, by name: where their collectors take spans over
    /// HTTP; nil for one that asks for gRPC.
    package var traceCollectors: [String: String?] = [:]
    /// MeshConfig `defaultProviders.tracing`.
    package var tracingProviders: [String] = []
    package var accessLog = AccessLogSettings()
    /// As it was written, for what is handed on to proxies.
    package var meshConfig: JSONValue = [:]
    /// MeshConfig `outboundTrafficPolicy.mode`: sidecars let their applications reach what is no service of the mesh.
    package var allowsUnknownDestinations = true

    package init() {}

    /// Reads MeshConfig YAML over these settings.
    /// - Throws: a text for the log; the settings in force then stay.
    package func merging(meshConfig yaml: String) throws(InvalidMeshConfig) -> MeshSettings {
        var settings = self
        let root: JSONValue
        do {
            root = try JSONValue(yaml: yaml)
        } catch {
            throw InvalidMeshConfig(description: "MeshConfig is no readable YAML: \(error)")
        }
        if root.isNull { return settings }
        guard root.object != nil else { throw InvalidMeshConfig(description: "MeshConfig is no mapping") }
        if let domain = root["trustDomain"]?.string, !domain.isEmpty { settings.trustDomain = domain }
        if let aliases = root["trustDomainAliases"], !aliases.isNull {
            settings.trustDomainAliases = try Self.aliases(aliases).filter { $0 != settings.trustDomain }
        }
        if let namespace = root["rootNamespace"]?.string, !namespace.isEmpty { settings.rootNamespace = namespace }
        if let rules = root["serviceEntryVisibility"], !rules.isNull {
            settings.entryVisibility = try VisibilityRules(rules)
        }
        settings.meshConfig = root
        settings.accessLog = try settings.accessLog.merging(root)
        if let mode = root.at("outboundTrafficPolicy", "mode")?.string {
            guard mode.hasPrefix("ALLOW_ANY") || mode == "REGISTRY_ONLY" else {
                throw InvalidMeshConfig(
                    description: "outboundTrafficPolicy: \"\(mode)\" is neither ALLOW_ANY nor REGISTRY_ONLY")
            }
            settings.allowsUnknownDestinations = mode != "REGISTRY_ONLY"
        }
        for provider in root["extensionProviders"]?.array ?? [] {
            guard let name = provider["name"]?.string, let collector = provider["opentelemetry"] else { continue }
            settings.traceCollectors.updateValue(TraceCollector.address(collector), forKey: name)
        }
        if let providers = root.at("defaultProviders", "tracing")?.array {
            settings.tracingProviders = providers.compactMap(\.string)
        }
        return settings
    }

    private static func aliases(_ json: JSONValue) throws(InvalidMeshConfig) -> [String] {
        guard let list = json.array else { throw InvalidMeshConfig(description: "trustDomainAliases is no list") }
        var aliases: [String] = []
        for value in list {
            // A name that could match more, or end early, must not get into a principal.
            guard let alias = value.string, !alias.isEmpty, !alias.contains(where: { $0 == "/" || $0 == "*" }) else {
                throw InvalidMeshConfig(description: "trustDomainAliases: \(value) is no trust domain")
            }
            if !aliases.contains(alias) { aliases.append(alias) }
        }
        guard aliases.count <= Self.trustDomainAliasesMax else {
            throw InvalidMeshConfig(
                description: "trustDomainAliases: more than \(Self.trustDomainAliasesMax) would multiply every policy")
        }
        return aliases
    }

    /// Each one is another principal for every principal of every policy.
    static let trustDomainAliasesMax = 32

    /// Whether an object belongs to this control plane's revision.
    package func owns(_ object: KubeObject) -> Bool {
        object.labels[Names.revision].map { $0 == self.revision } ?? true
    }

    /// A Gateway's revision is its own label's, else its namespace's.
    package func owns(_ gateway: GatewayView, in namespace: NamespaceView?) -> Bool {
        (gateway.labels[Names.revision] ?? namespace?.labels[Names.revision]).map { $0 == self.revision } ?? true
    }
}

package struct InvalidMeshConfig: Error, Hashable, CustomStringConvertible {
    package let description: String
}

/// Who may see a host that is no Kubernetes Service.
package enum EntryVisibility: String, Hashable, Sendable {
    /// Nobody: as if the object did not exist.
    case none = "NONE"
    case namespace = "NAMESPACE"
    case everywhere = "PUBLIC"
}

/// MeshConfig `serviceEntryVisibility`: the first policy whose every rule matches the namespace decides.
package struct VisibilityRules: Hashable, Sendable {
    package struct Policy: Hashable, Sendable {
        package var visibility: EntryVisibility
        package var namespaceSelectors: [LabelSelector]
    }
    package var policies: [Policy] = []
    package var fallback = EntryVisibility.everywhere

    package init() {}

    init(_ json: JSONValue) throws(InvalidMeshConfig) {
        self.fallback = try Self.visibility(json["defaultVisibility"])
        for policy in json["policies"]?.array ?? [] {
            var selectors: [LabelSelector] = []
            for rule in policy["matchingRules"]?.array ?? [] {
                do throws(LabelSelector.Invalid) {
                    selectors.append(try LabelSelector(rule["namespaceSelector"] ?? [:]))
                } catch {
                    throw InvalidMeshConfig(description: "serviceEntryVisibility: \(error)")
                }
            }
            self.policies.append(
                Policy(visibility: try Self.visibility(policy["visibility"]), namespaceSelectors: selectors))
        }
    }

    private static func visibility(_ json: JSONValue?) throws(InvalidMeshConfig) -> EntryVisibility {
        guard let text = json?.string, text != "VISIBILITY_UNSPECIFIED" else { return .everywhere }
        guard let visibility = EntryVisibility(rawValue: text) else {
            throw InvalidMeshConfig(
                description: "serviceEntryVisibility: \"\(text)\" is none of NONE, NAMESPACE and PUBLIC")
        }
        return visibility
    }

    func visibility(namespaceLabels: [String: String]) -> EntryVisibility {
        self.policies.first { $0.namespaceSelectors.allSatisfy { $0.matches(namespaceLabels) } }?.visibility
            ?? self.fallback
    }
}

/// What the mesh reads of a Namespace.
package struct NamespaceView: Hashable, Sendable {
    package var name: String
    package var labels: [String: String]
    package var distributionAnnotation: String?
    package var canaryWeight: String?
    package init(_ object: KubeObject) {
        self.name = object.name
        self.labels = object.labels
        self.distributionAnnotation = object.annotations[Names.trafficDistribution]
        self.canaryWeight = object.annotations[Names.canaryWeight]
    }
}

/// What the mesh reads of a Node: heartbeats change nothing here.
package struct NodeView: Hashable, Sendable {
    package var locality: Locality
    package init(_ object: KubeObject) {
        let labels = object.labels
        self.locality = Locality(
            region: labels["topology.kubernetes.io/region"] ?? "", zone: labels["topology.kubernetes.io/zone"] ?? "",
            subzone: labels["topology.istio.io/subzone"] ?? "")
    }
}

/// Labels and annotations that more than one place reads.
enum Names {
    static let network = "topology.istio.io/network"
    static let trafficDistribution = "networking.istio.io/traffic-distribution"
    static let useWaypoint = "istio.io/use-waypoint"
    static let useWaypointNamespace = "istio.io/use-waypoint-namespace"
    static let useCanary = "istio.io/use-waypoint-canary"
    static let useCanaryNamespace = "istio.io/use-waypoint-canary-namespace"
    static let canaryWeight = "istio.io/use-waypoint-canary-weight"
    static let ingressUseWaypoint = "istio.io/ingress-use-waypoint"
    static let waypointFor = "istio.io/waypoint-for"
    static let inboundBinding = "ambient.istio.io/waypoint-inbound-binding"
    static let gatewayName = "gateway.networking.k8s.io/gateway-name"
    static let gatewayClassName = "gateway.networking.k8s.io/gateway-class-name"
    static let managed = "gateway.istio.io/managed"
    static let serviceAccount = "gateway.istio.io/service-account"
    static let nameOverride = "gateway.istio.io/name-override"
    static let controllerVersion = "gateway.istio.io/controller-version"
    static let defaultsForClass = "gateway.istio.io/defaults-for-class"
    static let serviceType = "networking.istio.io/service-type"
    static let addressType = "networking.istio.io/address-type"
    static let proxyImage = "sidecar.istio.io/proxyImage"
    static let revision = "istio.io/rev"
    static let sidecarContainer = "istio-proxy"
    static let captureVariable = "ISTIO_META_DNS_CAPTURE"
    static let redirection = "ambient.istio.io/redirection"

    /// Go's boolean words; nil for anything else.
    static func boolean(_ text: String) -> Bool? {
        switch text {
        case "1", "t", "T", "true", "TRUE", "True": true
        case "0", "f", "F", "false", "FALSE", "False": false
        default: nil
        }
    }
}

extension Locality {
    /// `region/zone/subzone`; a label's value cannot hold a slash and uses dots instead.
    package init(path: String) {
        let separator: Character = path.contains("/") ? "/" : "."
        let parts = path.split(separator: separator, maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        self.init(
            region: parts.first ?? "", zone: parts.count > 1 ? parts[1] : "", subzone: parts.count > 2 ? parts[2] : "")
    }
}
