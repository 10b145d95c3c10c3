internal import KubeAPI
internal import MeshLinux

/// The CNI plugin: runs last in the node's chain, when the pod has its addresses, and does not let the pod start before
/// the agent has captured it. At the pod's end it runs first, and lets the proxy say so to the pod's peers while there is a
/// network to say it through.
///
/// It fails closed: when it cannot learn that a pod is captured or need not be, the pod does not start (kubelet tries
/// again). It needs no credentials and asks no API server: the agent knows, and for when the agent is down there is
/// an ``EnrolmentRecord``.
public struct CNIPlugin: Sendable {
    public static let versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]

    /// What a run prints and returns to the runtime.
    public struct Outcome: Hashable, Sendable {
        public let standardOutput: String
        public let exitCode: Int32
        /// One line for the log; nil when there is nothing to say.
        public let note: String?
    }

    /// How the agent is asked; tests pass their own.
    public enum Answer: Hashable, Sendable {
        case done
        case refused(status: Int, reason: String)
        case down(String)
        case silent(String)
    }
    package typealias Ask = @Sendable (_ socket: String, PluginRequest.Purpose, PluginRequest) -> Answer
    private let ask: Ask
    private let readRecord: @Sendable (_ path: String) throws -> [UInt8]

    public init() {
        self.init(ask: Self.askAgent, readRecord: { try Files.read($0) })
    }

    package init(
        ask: @escaping Ask,
        readRecord: @escaping @Sendable (_ path: String) throws -> [UInt8]
    ) {
        self.ask = ask
        self.readRecord = readRecord
    }

    /// - Parameters:
    ///   - environment: `CNI_COMMAND`, `CNI_NETNS`, `CNI_ARGS`.
    ///   - input: standard input.
    public func run(environment: [String: String], input: [UInt8]) -> Outcome {
        var version = "1.0.0"
        do throws(CNIFailure) {
            let command = environment["CNI_COMMAND"] ?? ""
            if command == "VERSION" { return Self.success(Self.versionAnswer) }
            let configuration = try Self.configuration(input)
            version = configuration.cniVersion
            switch command {
            case "ADD":
                let note = try self.add(configuration, environment)
                // The result of the plugins before us, unchanged.
                let result = configuration.previousResult ?? ["cniVersion": .string(version)]
                return Outcome(standardOutput: "\(result)\n", exitCode: 0, note: note)
            case "DEL": return Outcome(standardOutput: "", exitCode: 0, note: self.end(configuration, environment))
            case "CHECK", "GC", "STATUS":
                // The agent sees to its pods by itself; nothing of ours is in the chain's way.
                return Outcome(standardOutput: "", exitCode: 0, note: nil)
            default: throw .badEnvironment("CNI_COMMAND is \"\(command)\"")
            }
        } catch {
            return Outcome(
                standardOutput: "\(error.result(cniVersion: version))\n", exitCode: 1, note: "\(error)")
        }
    }

    private static func success(_ result: JSONValue) -> Outcome {
        Outcome(standardOutput: "\(result)\n", exitCode: 0, note: nil)
    }

    private static var versionAnswer: JSONValue {
        ["cniVersion": .string(Self.versions.last!), "supportedVersions": JSONValue(Self.versions)]
    }

    private static func configuration(_ input: [UInt8]) throws(CNIFailure) -> CNIConfiguration {
        let json: JSONValue
        do throws(JSONError) { json = try JSONValue(parsing: input) } catch { throw .badConfiguration("\(error)") }
        return try CNIConfiguration(json)
    }

    /// Returns (with a note) when the pod may start.
    private func add(
        _ configuration: CNIConfiguration, _ environment: [String: String]
    ) throws(CNIFailure) -> String? {
        guard var request = Self.request(configuration, environment) else { return nil }
        guard request.networkNamespace.hasPrefix("/") else {
            throw .badEnvironment("CNI_NETNS is not set to an absolute path")
        }
        request.addresses = PluginRequest.addresses(inResult: configuration.previousResult)
        switch self.ask(configuration.eventSocket, .start, request) {
        case .done: return nil
        case .refused(let status, let reason): throw .refused(status: status, reason: reason)
        case .silent(let reason): throw .noAnswer(reason)
        case .down(let reason):
            try self.decideAlone(configuration, request.podNamespace, reason)
            return "\(request) starts without the agent (\(reason)): nothing is captured in its namespace"
        }
    }

    /// Returns when the pod's peers know of its end, or when nobody can tell them: an end is never refused.
    private func end(_ configuration: CNIConfiguration, _ environment: [String: String]) -> String? {
        // A runtime may ask again when the namespace is gone, and gives no path then.
        guard let request = Self.request(configuration, environment), request.networkNamespace.hasPrefix("/") else {
            return nil
        }
        switch self.ask(configuration.eventSocket, .end, request) {
        case .done, .down: return nil
        case .refused(_, let reason), .silent(let reason):
            return "\(request) ends, and its peers may not have been told: \(reason)"
        }
    }

    /// Nil for what is no pod of the mesh in any case.
    private static func request(
        _ configuration: CNIConfiguration, _ environment: [String: String]
    ) -> PluginRequest? {
        let arguments = Self.arguments(environment["CNI_ARGS"] ?? "")
        guard configuration.isEnabled, let name = arguments["K8S_POD_NAME"], !name.isEmpty,
            let namespace = arguments["K8S_POD_NAMESPACE"], !namespace.isEmpty
        else { return nil }
        // The agent's own replacement must never wait for the agent.
        if namespace == configuration.agentNamespace, name.hasPrefix("istio-cni-node-") { return nil }
        if configuration.excludedNamespaces.contains(namespace) { return nil }
        return PluginRequest(
            networkNamespace: environment["CNI_NETNS"] ?? "", podName: name, podNamespace: namespace,
            podUID: arguments["K8S_POD_UID"] ?? "", addresses: [])
    }

    /// Returns when the record says that the pod needs no agent.
    private func decideAlone(
        _ configuration: CNIConfiguration, _ namespace: String, _ reason: String
    ) throws(CNIFailure) {
        let record: EnrolmentRecord
        do {
            record = try EnrolmentRecord(JSONValue(parsing: self.readRecord(configuration.recordPath)))
        } catch {
            throw .undecided(
                namespace: namespace, reason: "\(reason), and \(configuration.recordPath) is unusable: \(error)")
        }
        if !record.freeNamespaces.contains(namespace) { throw .undecided(namespace: namespace, reason: reason) }
    }

    /// `A=b;C=d`
    static func arguments(_ text: String) -> [String: String] {
        var found: [String: String] = [:]
        for pair in text.split(separator: ";") {
            guard let equals = pair.firstIndex(of: "=") else { continue }
            found[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
        }
        return found
    }

    private static func askAgent(
        _ socket: String, _ purpose: PluginRequest.Purpose, _ request: PluginRequest
    ) -> Answer {
        do throws(UnixHTTPError) {
            let response = try UnixHTTP.post(
                socket: socket, target: purpose.rawValue, body: request.json.encoded, timeout: purpose.limit)
            if response.status == 200 { return .done }
            return .refused(status: response.status, reason: response.text)
        } catch .nobodyListening(let error) {
            return .down("\(error)")
        } catch {
            return .silent("\(error)")
        }
    }
}
