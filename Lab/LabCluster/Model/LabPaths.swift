internal import Foundation
internal import KubeAPI

/// Where a lab keeps its files.
public struct LabPaths: Hashable, Sendable {
    /// Parents of the clusters' directories.
    public var stateRoot, runRoot: String

    public init(stateRoot: String = "/var/lib/martlet/lab", runRoot: String = "/run/martlet/lab") {
        self.stateRoot = stateRoot
        self.runRoot = runRoot
    }

    public func state(_ cluster: String) -> String { "\(self.stateRoot)/\(cluster)" }
    public func run(_ cluster: String) -> String { "\(self.runRoot)/\(cluster)" }
    public func specification(_ cluster: String) -> String { "\(self.state(cluster))/cluster.json" }
    public func pki(_ cluster: String) -> String { "\(self.state(cluster))/pki" }
    public func objects(_ cluster: String) -> String { "\(self.state(cluster))/objects" }
    public func kubeconfig(_ cluster: String) -> String { "\(self.state(cluster))/kubeconfig.yaml" }
    public func images(_ cluster: String) -> String { "\(self.state(cluster))/images.json" }
    public func log(_ cluster: String, _ process: String) -> String { "\(self.state(cluster))/logs/\(process).log" }
    public func serverPID(_ cluster: String) -> String { "\(self.run(cluster))/server.pid" }
    public func nodeState(_ cluster: String, _ node: String) -> String { "\(self.state(cluster))/nodes/\(node)" }
    public func nodeConfiguration(_ cluster: String, _ node: String) -> String {
        "\(self.state(cluster))/nodes/\(node).json"
    }
    public func nodeKubeconfig(_ cluster: String, _ node: String) -> String {
        "\(self.state(cluster))/nodes/\(node).kubeconfig"
    }
    public func nodeRun(_ cluster: String, _ node: String) -> String { "\(self.run(cluster))/nodes/\(node)" }
    /// Of the process that holds the node's namespaces; written by us.
    public func keeperPID(_ cluster: String, _ node: String) -> String { "\(self.nodeRun(cluster, node))/keeper.pid" }
    /// Of the node's pid 1, seen from the host; written by the node.
    public func nodePID(_ cluster: String, _ node: String) -> String { "\(self.nodeRun(cluster, node))/pid" }
    public func kubeletSocket(_ cluster: String, _ node: String) -> String {
        "\(self.nodeRun(cluster, node))/kubelet.sock"
    }
    /// Held while a cluster is created, started, stopped or deleted.
    public func lock(_ cluster: String) -> String { "\(self.runRoot)/\(cluster).lock" }

    /// Names of clusters of which anything is left.
    public func clusters() -> [String] {
        let names = [self.stateRoot, self.runRoot].flatMap { root in
            ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).filter { name in
                var isDirectory: ObjCBool = false
                return FileManager.default.fileExists(atPath: "\(root)/\(name)", isDirectory: &isDirectory)
                    && isDirectory.boolValue
            }
        }
        return Set(names).sorted()
    }

    /// Nil when there is no such cluster.
    public func load(_ cluster: String) throws(LabError) -> LabSpec? {
        guard let data = FileManager.default.contents(atPath: self.specification(cluster)) else { return nil }
        do {
            return try LabSpec(JSONValue(parsing: Array(data)))
        } catch {
            throw LabError(
                "\(self.specification(cluster)): \(error); remove the cluster with: martlet lab delete \(cluster)")
        }
    }

    func save(_ spec: LabSpec) throws {
        try Files.write(spec.json.description + "\n", to: self.specification(spec.name))
    }
}

/// Small files, written whole or not at all.
enum Files {
    static func write(_ text: String, to path: String, mode: Int = 0o600) throws {
        let directory = (path as NSString).deletingLastPathComponent
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let temporary = "\(path).new"
        try? FileManager.default.removeItem(atPath: temporary)
        guard
            FileManager.default.createFile(
                atPath: temporary, contents: Data(text.utf8), attributes: [.posixPermissions: mode])
        else { throw LabError("cannot write \(temporary)") }
        guard rename(temporary, path) == 0 else {
            throw LabError("cannot write \(path): \(String(cString: strerror(errno)))")
        }
    }

    static func read(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }
}
