package import KubeAPI

/// What `install` can be told: every setting, its default, and the paths that set it. Paths are Istio's, so that
/// scripts keep working; a path that nothing here honours is refused by name.
package struct InstallValues: Hashable, Sendable {
    package var profile = "ambient"
    package var namespace = "istio-system"
    package var hub = "docker.io/martlet"
    package var tag = MartletVersion.current
    package var pullPolicy = "IfNotPresent"
    package var platform = ""
    package var cniConfDir: String?
    package var cniBinDir: String?
    package var cniNetnsDir: String?
    /// Pods' name queries go to the node proxy; a pod's annotation `ambient.istio.io/dns-capture` overrides it.
    package var capturesDNS = true
    package var network = ""
    package var clusterID = "Kubernetes"
    package var trustDomain = "cluster.local"
    /// Other names of this mesh: for the control plane's policies, and for the peers of node proxies.
    package var trustDomainAliases: [String] = []
    /// Node proxies look at the revocation lists that the control plane publishes (ConfigMap `istio-ca-crl`).
    package var looksAtRevocations = false
    package var proxyLogLevel = "info"
    package var logsAsJSON = false
    package var waypointLogLevel = "info"
    /// `requests` and `limits` of waypoints, each by `cpu` and `memory`.
    package var waypointResources = ["requests": ["cpu": "100m", "memory": "128Mi"]]
    /// The same of sidecars.
    package var sidecarResources = [
        "requests": ["cpu": "100m", "memory": "128Mi"], "limits": ["cpu": "2000m", "memory": "1024Mi"],
    ]
    /// The agent answers the kubelet's probes of apps with sidecars.
    package var rewritesProbes = true
    /// Namespaces get sidecars that do not say otherwise.
    package var injectsByDefault = false
    /// Of the node proxy.
    package var gracePeriodSeconds: Int64 = 30
    /// Of the node agent, which needs 10 s of it for itself.
    package var cniGracePeriodSeconds: Int64 = 60
    /// Extra environment of each component, by its chart name: `pilot`, `cni`, `ztunnel`.
    package var environment: [String: [String: String]] = [:]

    package init() {}

    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// The directories that a platform uses (Istio's table for `global.platform`).
    private static let platforms: [String: (conf: String, bin: String, netns: String)] = [
        "": ("/etc/cni/net.d", "/opt/cni/bin", "/var/run/netns"),
        "k3d": ("/var/lib/rancher/k3s/agent/etc/cni/net.d", "/bin", "/var/run/netns"),
        "k3s": ("/var/lib/rancher/k3s/agent/etc/cni/net.d", "/var/lib/rancher/k3s/data/cni", "/var/run/netns"),
        "microk8s": (
            "/var/snap/microk8s/current/args/cni-network", "/var/snap/microk8s/current/opt/cni/bin", "/var/run/netns"
        ),
        "minikube": ("/etc/cni/net.d", "/opt/cni/bin", "/var/run/docker/netns"),
        "gke": ("/etc/cni/net.d", "/home/kubernetes/bin", "/var/run/netns"),
    ]

    package var confDir: String { self.cniConfDir ?? Self.platforms[self.platform]!.conf }
    package var binDir: String { self.cniBinDir ?? Self.platforms[self.platform]!.bin }
    package var netnsDir: String { self.cniNetnsDir ?? Self.platforms[self.platform]!.netns }
    package var image: String { "\(self.hub)/martlet:\(self.tag)" }
    /// Our program and Envoy.
    package var envoyImage: String { "\(self.hub)/proxy:\(self.tag)" }

    /// The paths that ``set(_:to:)`` understands, for the help and for the refusal of others.
    package static let paths = [
        "profile", "hub", "tag", "values.global.hub", "values.global.tag", "values.global.imagePullPolicy",
        "values.global.istioNamespace", "values.global.platform", "values.global.network",
        "values.global.multiCluster.clusterName", "values.global.logAsJson", "meshConfig.trustDomain",
        "meshConfig.trustDomainAliases", "values.cni.cniConfDir", "values.cni.cniBinDir", "values.cni.cniNetnsDir",
        "values.cni.ambient.dnsCapture",
        "values.cni.ambient.reconcileIptablesOnStartup", "values.cni.terminationGracePeriodSeconds",
        "values.global.proxy.logLevel", "values.global.waypoint.resources.requests.cpu",
        "values.global.waypoint.resources.requests.memory", "values.global.waypoint.resources.limits.cpu",
        "values.global.waypoint.resources.limits.memory",
        "values.global.proxy.resources.requests.cpu", "values.global.proxy.resources.requests.memory",
        "values.global.proxy.resources.limits.cpu", "values.global.proxy.resources.limits.memory",
        "values.sidecarInjectorWebhook.rewriteAppHTTPProbe", "values.sidecarInjectorWebhook.enableNamespacesByDefault",
        "values.ztunnel.logLevel", "values.ztunnel.peerCaCrl.enabled", "values.ztunnel.terminationGracePeriodSeconds",
        "values.pilot.env.<NAME>",
        "values.cni.env.<NAME>", "values.ztunnel.env.<NAME>",
    ]

    /// Applies one `path=value`.
    package mutating func set(_ path: String, to value: String) throws(Invalid) {
        func directory() throws(Invalid) -> String {
            guard value.hasPrefix("/"), !value.contains("..") else {
                throw Invalid(description: "\(path): \"\(value)\" is no absolute path")
            }
            return value
        }
        func flag() throws(Invalid) -> Bool {
            switch value {
            case "true": return true
            case "false": return false
            default: throw Invalid(description: "\(path): \"\(value)\" is neither true nor false")
            }
        }
        func level() throws(Invalid) -> String {
            guard ["off", "error", "warn", "info", "debug", "trace"].contains(value) else {
                throw Invalid(
                    description: "\(path): \"\(value)\" is none of off, error, warn, info, debug, trace")
            }
            return value
        }
        switch path {
        case "profile", "values.profile":
            guard value == "ambient" else {
                throw Invalid(
                    description: "profile \"\(value)\" is not known; known profiles: ambient. Nothing was applied")
            }
            self.profile = value
        case "hub", "values.global.hub": self.hub = value
        case "tag", "values.global.tag": self.tag = value
        case "values.global.imagePullPolicy":
            guard ["Always", "IfNotPresent", "Never"].contains(value) else {
                throw Invalid(description: "\(path): \"\(value)\" is none of Always, IfNotPresent, Never")
            }
            self.pullPolicy = value
        case "values.global.istioNamespace":
            guard Self.isLabel(value) else { throw Invalid(description: "\(path): \"\(value)\" is no namespace name") }
            self.namespace = value
        case "values.global.platform":
            guard Self.platforms[value] != nil else {
                let known = Self.platforms.keys.filter { !$0.isEmpty }.sorted().joined(separator: ", ")
                throw Invalid(description: "\(path): \"\(value)\" is not known; known platforms: \(known)")
            }
            self.platform = value
        case "values.global.network": self.network = value
        case "values.global.multiCluster.clusterName": self.clusterID = value
        case "values.global.logAsJson": self.logsAsJSON = try flag()
        case "meshConfig.trustDomain": self.trustDomain = value
        case "meshConfig.trustDomainAliases": self.trustDomainAliases = try Self.list(of: path, value)
        case "values.ztunnel.peerCaCrl.enabled": self.looksAtRevocations = try flag()
        case "values.cni.cniConfDir": self.cniConfDir = try directory()
        case "values.cni.cniBinDir": self.cniBinDir = try directory()
        case "values.cni.cniNetnsDir": self.cniNetnsDir = try directory()
        case "values.cni.ambient.dnsCapture": self.capturesDNS = try flag()
        case "values.cni.ambient.reconcileIptablesOnStartup":
            self.environment["cni", default: [:]]["AMBIENT_RECONCILE_POD_RULES_ON_STARTUP"] = "\(try flag())"
        case "values.cni.terminationGracePeriodSeconds":
            guard let seconds = Int64(value), (30...86_400).contains(seconds) else {
                throw Invalid(
                    description: "\(path): \"\(value)\" is no number of seconds from 30 to 86400; with less the agent "
                        + "would cut the connections of pods that leave the mesh")
            }
            self.cniGracePeriodSeconds = seconds
        case "values.ztunnel.logLevel": self.proxyLogLevel = try level()
        case "values.global.proxy.logLevel": self.waypointLogLevel = try level()
        case "values.sidecarInjectorWebhook.rewriteAppHTTPProbe": self.rewritesProbes = try flag()
        case "values.sidecarInjectorWebhook.enableNamespacesByDefault": self.injectsByDefault = try flag()
        case "values.global.proxy.resources.requests.cpu", "values.global.proxy.resources.requests.memory",
            "values.global.proxy.resources.limits.cpu", "values.global.proxy.resources.limits.memory":
            let (group, name) = try Self.resource(path, value)
            self.sidecarResources[group, default: [:]][name] = value
        case "values.global.waypoint.resources.requests.cpu", "values.global.waypoint.resources.requests.memory",
            "values.global.waypoint.resources.limits.cpu", "values.global.waypoint.resources.limits.memory":
            let (group, name) = try Self.resource(path, value)
            self.waypointResources[group, default: [:]][name] = value
        case "values.ztunnel.terminationGracePeriodSeconds":
            guard let seconds = Int64(value), (1...86_400).contains(seconds) else {
                throw Invalid(description: "\(path): \"\(value)\" is no number of seconds from 1 to 86400")
            }
            self.gracePeriodSeconds = seconds
        default:
            for component in ["pilot", "cni", "ztunnel"] {
                let prefix = "values.\(component).env."
                if path.hasPrefix(prefix), path.count > prefix.count {
                    self.environment[component, default: [:]][String(path.dropFirst(prefix.count))] = value
                    return
                }
            }
            throw Invalid(
                description: "--set \(path): nothing honours this setting; known settings: "
                    + Self.paths.joined(separator: ", "))
        }
    }

    /// The last two names of a path such as `….requests.cpu`, after a look at the value.
    private static func resource(_ path: String, _ value: String) throws(Invalid) -> (String, String) {
        guard value.wholeMatch(of: /[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?/) != nil else {
            throw Invalid(description: "\(path): \"\(value)\" is no quantity such as 100m, 0.5 or 128Mi")
        }
        let names = path.split(separator: ".").suffix(2).map(String.init)
        return (names[0], names[1])
    }

    /// Applies an `IstioOperator` document: each leaf below `spec` counts as one `--set`.
    package mutating func apply(operator document: JSONValue) throws(Invalid) {
        guard document["kind"]?.string == "IstioOperator",
            document["apiVersion"]?.string == "install.istio.io/v1alpha1"
        else {
            throw Invalid(description: "the file is no IstioOperator document of install.istio.io/v1alpha1")
        }
        if let namespace = document.at("metadata", "namespace")?.string {
            try self.set("values.global.istioNamespace", to: namespace)
        }
        for (path, value) in Self.leaves(document["spec"] ?? [:], []) { try self.set(path, to: value) }
    }

    private static func leaves(_ value: JSONValue, _ path: [String]) -> [(String, String)] {
        switch value {
        case .object(let members):
            members.sorted { $0.key < $1.key }.flatMap { Self.leaves($0.value, path + [$0.key]) }
        case .string(let text): [(path.joined(separator: "."), text)]
        case .null: []
        default: [(path.joined(separator: "."), value.description)]
        }
    }

    /// `{a,b}` as on Istio's command line, `["a","b"]` as a list in a file is handed on, or `a,b`.
    private static func list(of path: String, _ text: String) throws(Invalid) -> [String] {
        var inner = text[...]
        if inner.count >= 2, (text.first, text.last) == ("{", "}") || (text.first, text.last) == ("[", "]") {
            inner = inner.dropFirst().dropLast()
        }
        let names = inner.split(separator: ",", omittingEmptySubsequences: !inner.contains(","))
            .map { $0.filter { $0 != " " && $0 != "\"" } }
        for name in names where !Self.isDomain(name) {
            throw Invalid(description: "\(path): \"\(name)\" is no trust domain; wanted {one.example,another.example}")
        }
        return names
    }

    /// SPIFFE-ID, 2.1: lower-case letters, digits, dots, dashes and underscores.
    private static func isDomain(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count)
            && text.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || [45, 46, 95].contains($0) }
    }

    private static func isLabel(_ text: String) -> Bool {
        (1...63).contains(text.utf8.count) && text.utf8.first != UInt8(ascii: "-")
            && text.utf8.last != UInt8(ascii: "-")
            && text.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == UInt8(ascii: "-") }
    }
}
