import Foundation
public import KubeAPI

/// What a node has to know before it starts, from a JSON file that cluster creation writes:
///
/// ```json
/// {"clusterName": "k3s-default", "nodeName": "k3d-k3s-default-agent-0", "nodeIndex": 1,
///  "server": "https://172.30.0.1:6550", "kubeconfig": "/var/lib/martlet-lab/k3s-default/kubelet.yaml",
///  "bridge": "mlab0", "nodeIP": "172.30.0.3", "prefixLength": 16, "gateway": "172.30.0.1",
///  "podCIDR": "10.42.1.0/24", "clusterCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16",
///  "clusterDNS": "10.43.0.10", "clusterDomain": "cluster.local",
///  "stateDirectory": "/var/lib/martlet-lab/k3s-default/nodes/k3d-k3s-default-agent-0",
///  "runDirectory": "/run/martlet-lab/k3s-default", "labels": {}, "taints": [],
///  "imagesFile": "/etc/martlet-lab/images.json"}
/// ```
///
/// `server` (overrides the kubeconfig's), `clusterCIDR`, `serviceCIDR`, `clusterDNS`, `clusterDomain`, `labels`,
/// `taints`, `imagesFile` and `kubernetesVersion` may be missing.
public struct NodeConfiguration: Hashable, Sendable {
    public var clusterName: String
    public var nodeName: String
    /// 0 for the server, then the agents; makes interface names on the host unique within the cluster.
    public var nodeIndex: Int
    public var server: String?
    public var kubeconfig: String
    /// The host's bridge that the node is plugged into.
    public var bridge: String
    public var nodeIP: String
    public var prefixLength: Int
    public var gateway: String
    public var podCIDR: String
    public var clusterCIDR = "10.42.0.0/16"
    public var serviceCIDR = "10.43.0.0/16"
    public var clusterDNS = "10.43.0.10"
    public var clusterDomain = "cluster.local"
    /// Everything the node keeps on disk; the node's own, deleted with the cluster.
    public var stateDirectory: String
    /// Sockets and pid files of the cluster. Unix socket paths end at 107 bytes: keep it short.
    public var runDirectory: String
    public var labels: [String: String] = [:]
    /// Node taints as in `spec.taints`.
    public var taints: [JSONValue] = []
    /// Additions to the image catalogue; see ``ImageCatalogue``.
    public var imagesFile: String?
    public var kubernetesVersion = "v1.32.0+lab1"

    public init(
        clusterName: String, nodeName: String, nodeIndex: Int, kubeconfig: String, bridge: String, nodeIP: String,
        prefixLength: Int, gateway: String, podCIDR: String, stateDirectory: String, runDirectory: String
    ) {
        self.clusterName = clusterName
        self.nodeName = nodeName
        self.nodeIndex = nodeIndex
        self.kubeconfig = kubeconfig
        self.bridge = bridge
        self.nodeIP = nodeIP
        self.prefixLength = prefixLength
        self.gateway = gateway
        self.podCIDR = podCIDR
        self.stateDirectory = stateDirectory
        self.runDirectory = runDirectory
    }

    public struct Invalid: Error, CustomStringConvertible {
        public let description: String
    }

    public init(path: String) throws {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw Invalid(description: "cannot read the node configuration \(path)")
        }
        do {
            try self.init(JSONValue(parsing: Array(data)))
        } catch {
            throw Invalid(description: "node configuration \(path): \(error)")
        }
    }

    public init(_ json: JSONValue) throws {
        func string(_ key: String) throws -> String {
            guard let value = json[key]?.string, !value.isEmpty else {
                throw Invalid(description: "\(key) is missing; wanted a string")
            }
            return value
        }
        func int(_ key: String, in range: ClosedRange<Int>) throws -> Int {
            guard let value = json[key]?.int, let value = Int(exactly: value), range.contains(value) else {
                throw Invalid(
                    description: "\(key) is missing or not between \(range.lowerBound) and \(range.upperBound)")
            }
            return value
        }
        self.init(
            clusterName: try string("clusterName"), nodeName: try string("nodeName"),
            nodeIndex: try int("nodeIndex", in: 0...9999), kubeconfig: try string("kubeconfig"),
            bridge: try string("bridge"), nodeIP: try string("nodeIP"),
            prefixLength: try int("prefixLength", in: 8...30), gateway: try string("gateway"),
            podCIDR: try string("podCIDR"), stateDirectory: try string("stateDirectory"),
            runDirectory: try string("runDirectory"))
        self.server = json["server"]?.string
        self.clusterCIDR = json["clusterCIDR"]?.string ?? self.clusterCIDR
        self.serviceCIDR = json["serviceCIDR"]?.string ?? self.serviceCIDR
        self.clusterDNS = json["clusterDNS"]?.string ?? self.clusterDNS
        self.clusterDomain = json["clusterDomain"]?.string ?? self.clusterDomain
        self.labels = json["labels"]?.stringMap ?? [:]
        self.taints = json["taints"]?.array ?? []
        self.imagesFile = json["imagesFile"]?.string
        self.kubernetesVersion = json["kubernetesVersion"]?.string ?? self.kubernetesVersion
    }

    /// What ``init(_:)`` reads.
    public var json: JSONValue {
        var json: JSONValue = [
            "clusterName": .string(self.clusterName), "nodeName": .string(self.nodeName),
            "nodeIndex": .int(Int64(self.nodeIndex)), "kubeconfig": .string(self.kubeconfig),
            "bridge": .string(self.bridge), "nodeIP": .string(self.nodeIP),
            "prefixLength": .int(Int64(self.prefixLength)), "gateway": .string(self.gateway),
            "podCIDR": .string(self.podCIDR), "clusterCIDR": .string(self.clusterCIDR),
            "serviceCIDR": .string(self.serviceCIDR), "clusterDNS": .string(self.clusterDNS),
            "clusterDomain": .string(self.clusterDomain), "stateDirectory": .string(self.stateDirectory),
            "runDirectory": .string(self.runDirectory), "labels": JSONValue(self.labels),
            "taints": .array(self.taints), "kubernetesVersion": .string(self.kubernetesVersion),
        ]
        json["server"] = self.server.map { .string($0) }
        json["imagesFile"] = self.imagesFile.map { .string($0) }
        return json
    }

    /// Where this node's sockets and pid file are: `<run dir>/nodes/<node>`.
    public var nodeRunDirectory: String { "\(self.runDirectory)/nodes/\(self.nodeName)" }
    public var kubeletSocket: String { "\(self.nodeRunDirectory)/kubelet.sock" }
    /// The host pid of the node's pid 1, in decimal.
    public var pidFile: String { "\(self.nodeRunDirectory)/pid" }
    /// The node's end of the bridge, on the host. Interface names end at 15 characters.
    public var hostInterface: String {
        // Two clusters have different bridges, so the bridge's name keeps their interfaces apart.
        "\(self.bridge.prefix(8))n\(self.nodeIndex)"
    }
    /// Below every cgroup hierarchy; containers are in `kubepods/pod<uid>/<container id>` under it.
    public var cgroup: String { "/martlet-lab/\(self.clusterName)/\(self.nodeName)" }

    func catalogue() -> ImageCatalogue {
        var catalogue = ImageCatalogue.builtIn(installation: ImageCatalogue.installationDirectory())
        catalogue.file = self.imagesFile
        return catalogue
    }
}
