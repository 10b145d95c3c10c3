public import KubeAPI

/// The plugin's own object in the node's CNI chain, as the container runtime hands it over on standard input, merged
/// with what the runtime adds (`cniVersion`, `prevResult`).
public struct CNIConfiguration: Hashable, Sendable {
    /// The name of our entry and of the plugin's executable.
    public static let pluginName = "istio-cni"
    public static let runDirectoryDefault = "/var/run/istio-cni"

    public var cniVersion: String
    /// Where the agent's socket and record are: `cni_agent_run_dir`.
    public var runDirectory: String
    /// The agent's own namespace: `pod_namespace`.
    public var agentNamespace: String
    /// `exclude_namespaces`
    public var excludedNamespaces: [String]
    /// `ambient_enabled`; when false every pod passes.
    public var isEnabled: Bool
    /// What the plugins before us did; passed on unchanged.
    public var previousResult: JSONValue?

    public init(
        cniVersion: String = "1.0.0", runDirectory: String = runDirectoryDefault, agentNamespace: String,
        excludedNamespaces: [String], isEnabled: Bool = true, previousResult: JSONValue? = nil
    ) {
        self.cniVersion = cniVersion
        self.runDirectory = runDirectory
        self.agentNamespace = agentNamespace
        self.excludedNamespaces = excludedNamespaces
        self.isEnabled = isEnabled
        self.previousResult = previousResult
    }

    /// - Throws: what makes the object unusable. Unknown members are ignored.
    public init(_ json: JSONValue) throws(CNIFailure) {
        guard json.object != nil else { throw .badConfiguration("standard input holds no JSON object") }
        self.cniVersion = json["cniVersion"]?.string ?? "0.1.0"
        guard CNIPlugin.versions.contains(self.cniVersion) else { throw .unsupportedVersion(self.cniVersion) }
        self.runDirectory = json["cni_agent_run_dir"]?.string ?? Self.runDirectoryDefault
        self.agentNamespace = json["pod_namespace"]?.string ?? ""
        self.excludedNamespaces = json["exclude_namespaces"]?.array?.compactMap(\.string) ?? []
        self.isEnabled = json["ambient_enabled"]?.bool ?? true
        self.previousResult = json["prevResult"]
    }

    /// Our object as the agent appends it to the chain; `cniVersion` and `prevResult` are the runtime's to add.
    public var chainEntry: JSONValue {
        [
            "type": .string(Self.pluginName), "name": .string(Self.pluginName),
            "cni_agent_run_dir": .string(self.runDirectory), "pod_namespace": .string(self.agentNamespace),
            "exclude_namespaces": JSONValue(self.excludedNamespaces), "ambient_enabled": .bool(self.isEnabled),
        ]
    }

    public var eventSocket: String { "\(self.runDirectory)/pluginevent.sock" }
    public var recordPath: String { "\(self.runDirectory)/enrolment.json" }
    public var logPath: String { "\(self.runDirectory)/istio-cni.log" }
}

/// Why a pod must not start (yet). Printed in the form of the CNI specification; kubelet shows the message as an event
/// of the pod and tries again.
public enum CNIFailure: Error, Hashable, CustomStringConvertible {
    case unsupportedVersion(String)
    case badConfiguration(String)
    case badEnvironment(String)
    /// The agent answered that the pod is not captured.
    case refused(status: Int, reason: String)
    /// The agent took the request and did not answer.
    case noAnswer(String)
    /// The agent is down, and the pod may be one that has to be captured.
    case undecided(namespace: String, reason: String)

    /// CNI specification, "Well-known Error Codes": 1 incompatible version, 4 bad environment, 7 bad configuration, 11 try
    /// again later.
    public var code: Int64 {
        switch self {
        case .unsupportedVersion: 1
        case .badEnvironment: 4
        case .badConfiguration: 7
        case .refused, .noAnswer, .undecided: 11
        }
    }

    public var description: String {
        switch self {
        case .unsupportedVersion(let version):
            "CNI version \(version) is not supported; supported are \(CNIPlugin.versions.joined(separator: ", "))"
        case .badConfiguration(let reason): "bad configuration of \(CNIConfiguration.pluginName): \(reason)"
        case .badEnvironment(let reason): "bad environment: \(reason)"
        case .refused(let status, let reason):
            "the node agent (istio-cni-node) could not add the pod to the mesh (status \(status)): \(reason)"
        case .noAnswer(let reason):
            "the node agent (istio-cni-node) took the pod and did not answer: \(reason); see its log on this node"
        case .undecided(let namespace, let reason):
            "the node agent (istio-cni-node) does not run on this node, and a pod in namespace \(namespace) must not "
                + "start without it: \(reason); the pod starts once the agent is back"
        }
    }

    public func result(cniVersion: String) -> JSONValue {
        [
            "cniVersion": .string(cniVersion), "code": .int(self.code), "msg": .string("\(self)"), "details": "",
        ]
    }
}
