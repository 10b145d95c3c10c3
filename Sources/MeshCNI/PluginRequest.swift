public import KubeAPI
public import MeshModel

/// What the plugin tells the agent about a pod that starts, or whose sandbox is taken down: the body of `POST /cmdadd` and
/// `POST /cmddel`.
///
///     {"Netns":"/var/run/netns/cni-01","PodName":"web-0","PodNamespace":"shop",
///      "IPs":[{"Interface":2,"Address":{"IP":"10.1.0.9","Mask":"////AA=="},"Gateway":"10.1.0.1"}]}
public struct PluginRequest: Hashable, Sendable, CustomStringConvertible {
    public enum Purpose: String, Sendable {
        /// The pod starts when the answer is 200.
        case start = "/cmdadd"
        /// The pod's network goes with the answer, whatever it is. Our addition: the reference's plugin says nothing.
        case end = "/cmddel"

        /// How long the plugin waits. For a start longer than the agent's own limits (rules, then 5 s for the proxy's answer,
        /// then the next proxy), so that the agent's reason arrives, and far shorter than a runtime's patience (minutes). For
        /// an end a little longer than the proxy's farewell to the pod's peers may take (2 s).
        public var limit: Duration { self == .start ? .seconds(30) : .seconds(4) }
    }

    /// The namespace's path as the runtime gave it, on the host.
    public var networkNamespace: String
    public var podName, podNamespace: String
    /// Empty when the runtime does not say. Our addition: the reference has no such member.
    public var podUID: String
    public var addresses: [IPAddress]

    public init(
        networkNamespace: String, podName: String, podNamespace: String, podUID: String, addresses: [IPAddress]
    ) {
        self.networkNamespace = networkNamespace
        self.podName = podName
        self.podNamespace = podNamespace
        self.podUID = podUID
        self.addresses = addresses
    }

    /// `pod shop/web-0`
    public var description: String { "pod \(self.podNamespace)/\(self.podName)" }

    public struct Invalid: Error, Hashable, CustomStringConvertible {
        public let description: String
    }

    public init(_ json: JSONValue) throws(Invalid) {
        guard let path = json["Netns"]?.string, path.hasPrefix("/"), let name = json["PodName"]?.string,
            !name.isEmpty, let namespace = json["PodNamespace"]?.string, !namespace.isEmpty
        else { throw Invalid(description: "Netns (an absolute path), PodName and PodNamespace are needed") }
        self.networkNamespace = path
        self.podName = name
        self.podNamespace = namespace
        self.podUID = json["PodUID"]?.string ?? ""
        self.addresses = []
        for entry in json["IPs"]?.array ?? [] {
            guard let address = (entry["Address"]?["IP"]?.string).flatMap({ IPAddress($0) }) else {
                throw Invalid(description: "an entry of IPs has no Address.IP")
            }
            self.addresses.append(address)
        }
    }

    public var json: JSONValue {
        [
            "Netns": .string(self.networkNamespace), "PodName": .string(self.podName),
            "PodNamespace": .string(self.podNamespace), "PodUID": .string(self.podUID),
            "IPs": .array(self.addresses.map { ["Address": ["IP": .string("\($0)")], "Gateway": ""] }),
        ]
    }

    /// The pod's addresses in a CNI result: `ips[].address` since 0.3.0, `ip4.ip` and `ip6.ip` before.
    public static func addresses(inResult result: JSONValue?) -> [IPAddress] {
        let texts =
            (result?["ips"]?.array ?? []).compactMap { $0["address"]?.string }
            + ["ip4", "ip6"].compactMap { result?[$0]?["ip"]?.string }
        return texts.compactMap { IPAddress($0.prefix { $0 != "/" }) }
    }
}
