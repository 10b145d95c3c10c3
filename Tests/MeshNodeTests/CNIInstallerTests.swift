import Glibc
import KubeAPI
import MeshCNI
import MeshLinux
import MeshNode
import Testing

@Suite("Installing into the node's CNI chain")
struct CNIInstallerTests {
    /// Directories of one test, removed with it.
    final class Place {
        let directory = "/tmp/cni-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        init() throws {
            for name in ["bin", "net.d", "run"] { try Files.makeDirectory("\(self.directory)/\(name)") }
            try self.write("plugin v1", "martlet-cni")
        }
        deinit { _ = try? Program.run(["rm", "-rf", self.directory]) }

        func write(_ text: String, _ name: String, mode: UInt32 = 0o644) throws {
            try Files.writeAtomically(Array(text.utf8), to: "\(self.directory)/\(name)", mode: mode)
        }
        func read(_ name: String) throws -> JSONValue {
            try JSONValue(parsing: Files.read("\(self.directory)/net.d/\(name)"))
        }
        var names: [String] { (try? Files.list("\(self.directory)/net.d")) ?? [] }

        func installer(_ change: (inout CNIInstallerConfiguration) -> Void = { _ in }) -> CNIInstaller {
            var configuration = CNIInstallerConfiguration(
                plugin: "\(self.directory)/martlet-cni", binaryDirectory: "\(self.directory)/bin",
                configurationDirectory: "\(self.directory)/net.d", runDirectory: "\(self.directory)/run")
            change(&configuration)
            return CNIInstaller(configuration, CNIInstallerTests.plugin)
        }
    }

    static let plugin = CNIConfiguration(agentNamespace: "istio-system", excludedNamespaces: ["kube-system"])
    static let main =
        #"{"cniVersion":"1.0.0","name":"main","plugins":[{"type":"bridge","mtu":1500},{"type":"portmap"}]}"#

    @Test("appends our entry, keeps the others, their order and the file's mode; and undoes it (14, 16)")
    func chained() throws {
        let place = try Place()
        try place.write(Self.main, "net.d/10-main.conflist", mode: 0o640)
        let installer = place.installer()
        #expect(try installer.reconcile() == .installed)
        let chain = try place.read("10-main.conflist")
        #expect(chain["plugins"]?.array?.compactMap { $0["type"]?.string } == ["bridge", "portmap", "istio-cni"])
        #expect(chain["plugins"]?[2] == Self.plugin.chainEntry)
        #expect(try Files.information("\(place.directory)/net.d/10-main.conflist")?.mode == 0o640)
        #expect(try Files.information("\(place.directory)/bin/istio-cni")?.mode == 0o755)
        #expect(try installer.reconcile() == .unchanged)
        try installer.remove()
        #expect(try place.read("10-main.conflist") == JSONValue(parsing: Self.main))
        #expect(try Files.list("\(place.directory)/bin") == [])
    }

    @Test("comes back when the main CNI rewrites its file, when the plugin changes, and when it is taken away (15)")
    func repair() throws {
        let place = try Place()
        try place.write(Self.main, "net.d/10-main.conflist")
        let installer = place.installer()
        _ = try installer.reconcile()
        try place.write(Self.main, "net.d/10-main.conflist")
        #expect(try installer.reconcile() == .installed)
        try place.write("plugin v2", "martlet-cni")
        #expect(try installer.reconcile() == .installed)
        #expect(try Files.readText("\(place.directory)/bin/istio-cni") == "plugin v2")
        try Files.remove("\(place.directory)/bin/istio-cni")
        #expect(try installer.reconcile() == .installed)
        #expect(try installer.reconcile() == .unchanged)
    }

    @Test("replaces an older entry of ours instead of adding a second")
    func older() throws {
        let place = try Place()
        let old = #"{"cniVersion":"1.0.0","name":"main","plugins":[{"type":"bridge"},{"type":"istio-cni","old":1}]}"#
        try place.write(old, "net.d/10-main.conflist")
        _ = try place.installer().reconcile()
        #expect(
            try place.read("10-main.conflist")["plugins"] == [["type": "bridge"], Self.plugin.chainEntry])
    }

    @Test("makes a list of a single plugin, under a new name (16)")
    func single() throws {
        let place = try Place()
        try place.write(#"{"cniVersion":"0.3.1","name":"one","type":"ptp","mtu":9000}"#, "net.d/10-one.conf")
        let installer = place.installer()
        #expect(try installer.reconcile() == .installed)
        #expect(place.names == ["10-one.conflist"])
        let list = try place.read("10-one.conflist")
        #expect(list["plugins"]?[0] == ["name": "one", "type": "ptp", "mtu": 9000])
        #expect(try installer.reconcile() == .unchanged)
    }

    @Test("waits for a primary, skipping what is no configuration")
    func waiting() throws {
        let place = try Place()
        try place.write("half a fi", "net.d/05-broken.conflist")
        try place.write("{}", "net.d/06-empty.conf")
        try place.write(Self.main, "net.d/07-other.json")
        let installer = place.installer()
        #expect(try installer.reconcile() == .waitingForPrimary)
        try place.write(Self.main, "net.d/10-main.conflist")
        #expect(try installer.reconcile() == .installed)
    }

    @Test("keeps a file of its own that sorts first and follows the primary (17)")
    func owned() throws {
        let place = try Place()
        try place.write(Self.main, "net.d/10-main.conflist")
        let installer = place.installer { $0.ownedName = "02-istio-cni.conflist" }
        #expect(try installer.reconcile() == .installed)
        #expect(place.names == ["02-istio-cni.conflist", "10-main.conflist"])
        #expect(try place.read("10-main.conflist") == JSONValue(parsing: Self.main), "the primary is untouched")
        #expect(try Files.information("\(place.directory)/net.d/02-istio-cni.conflist")?.mode == 0o600)
        try place.write(#"{"cniVersion":"1.0.0","name":"main","plugins":[{"type":"new"}]}"#, "net.d/10-main.conflist")
        #expect(try installer.reconcile() == .installed)
        #expect(try place.read("02-istio-cni.conflist")["plugins"] == [["type": "new"], Self.plugin.chainEntry])
        try installer.remove()
        #expect(place.names == ["10-main.conflist"])
    }

    @Test("writes a file of its own where plugins are not chained")
    func standalone() throws {
        let place = try Place()
        let installer = place.installer { $0.isChained = false }
        #expect(try installer.reconcile() == .installed)
        #expect(try place.read("YYY-istio-cni.conf")["type"] == "istio-cni")
        try installer.remove()
        #expect(place.names == [])
    }

    @Test("says what it cannot do")
    func failure() throws {
        let place = try Place()
        let installer = place.installer { $0.plugin = "/nowhere/martlet-cni" }
        #expect { try installer.reconcile() } throws: { error in
            (error as? CNIInstaller.Failure)?.result == "COPY_BINARIES_FAILURE"
                && "\(error)".contains("/nowhere/martlet-cni")
        }
    }
}
