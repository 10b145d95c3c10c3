import Foundation
import KubeAPI
import KubeClient
import LabCluster
import Testing

@Suite("This machine")
struct HostTests {
    @Test("names everything that is missing, with the packages")
    func programs() {
        let error = #expect(throws: LabError.self) {
            try Preflight.checkPrograms(find: { $0 == "ip" ? "/usr/sbin/ip" : nil }, exists: { _ in false })
        }
        let text = error?.description ?? ""
        #expect(text.contains("nft") && text.contains("runc") && text.contains("containernetworking-plugins"))
        #expect(!text.contains("iproute2"))
    }

    @Test("has routes that a cluster must not overlap")
    func routes() throws {
        let text = """
            default via 192.0.2.1 dev eth0
            172.28.0.0/16 dev br-1 proto kernel scope link src 172.28.0.1
            local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1
            """
        let routes = Preflight.routes(text)
        #expect(routes.map(\.network.description) == ["172.28.0.0/16", "127.0.0.0/8"])
        #expect(Preflight.overlap(LabSpec.subnetDefaults[0], with: routes) == "the route to 172.28.0.0/16 by br-1")
        #expect(Preflight.overlap(LabSpec.subnetDefaults[1], with: routes) == nil)
    }

    @Test("knows a process by its start time, too")
    func identity() throws {
        let me = try #require(ProcessIdentity(pid: getpid()))
        #expect(me.isAlive && me.startTime > 0)
        #expect(ProcessIdentity(pid: 0) == nil)
    }
}

@Suite("The user's kubeconfig")
struct KubeconfigTests {
    private let cluster: JSONValue = [
        "clusters": [["name": "k3d-a", "cluster": ["server": "https://127.0.0.1:6550"]]],
        "users": [["name": "admin@k3d-a", "user": ["token": "t"]]],
        "contexts": [["name": "k3d-a", "context": ["cluster": "k3d-a", "user": "admin@k3d-a"]]],
        "current-context": "k3d-a",
    ]
    private let theirs = """
        apiVersion: v1
        kind: Config
        current-context: work
        clusters:
        - name: work
          cluster: {server: "https://work"}
        users:
        - name: me
          user: {token: secret}
        contexts:
        - name: work
          context: {cluster: work, user: me}
        """

    @Test("gets a context more, keeps the others, and loses only its own again")
    func merge() throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("kubeconfig-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try self.theirs.write(toFile: path, atomically: true, encoding: .utf8)
        let before = try JSONValue(yaml: self.theirs)
        let file = KubeconfigFile(path: path)
        try file.merge(self.cluster, switchContext: true)
        let merged = try JSONValue(yaml: String(contentsOfFile: path, encoding: .utf8))
        #expect(merged["contexts"]?.array?.map { $0["name"]?.string } == ["work", "k3d-a"])
        #expect(merged["current-context"] == "k3d-a")
        try file.remove(context: "k3d-a")
        var after = try JSONValue(yaml: String(contentsOfFile: path, encoding: .utf8))
        #expect(after["current-context"] == "")
        after["current-context"] = "work"
        #expect(after == before)
    }

    @Test("is left alone when it cannot be read")
    func unreadable() throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("kubeconfig-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "a: [b".write(toFile: path, atomically: true, encoding: .utf8)
        #expect(throws: LabError.self) { try KubeconfigFile(path: path).merge(self.cluster, switchContext: true) }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "a: [b")
    }

    @Test("is merged twice without doubling")
    func twice() {
        let once = KubeconfigFile.merged(["kind": "Config"], self.cluster, switchContext: false)
        #expect(KubeconfigFile.merged(once, self.cluster, switchContext: false) == once)
        #expect(once["current-context"] == "k3d-a")
    }
}
