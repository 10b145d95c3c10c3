import Foundation
import MeshModel
import MeshNode
import Testing

/// The rules are compared with files; `MESH_UPDATE_GOLDEN=1` rewrites them, and the diff is the review.
@Suite("The packet rules")
struct RulesTests {
    static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden")

    static func compare(_ text: String, with name: String) throws {
        let file = Self.directory.appending(path: name)
        if ProcessInfo.processInfo.environment["MESH_UPDATE_GOLDEN"] == "1" {
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOf: file, encoding: .utf8) == text, "\(name)")
    }

    @Test("of an enrolled pod")
    func capture() throws { try Self.compare(PodRules().capture, with: "capture.nft") }

    @Test("of a pod without DNS capture, and with a virtual machine inside")
    func variants() throws {
        var rules = PodRules()
        rules.isDNSCaptured = false
        rules.virtualInterfaces = ["vnet1", "k6t-eth0", "bad\"name", "much-too-long-name"]
        try Self.compare(rules.capture, with: "capture-no-dns-vm.nft")
    }

    @Test("of an ingress pod")
    func ingress() throws {
        var rules = PodRules()
        rules.isIngress = true
        try Self.compare(rules.capture, with: "capture-ingress.nft")
    }

    @Test("of a pod that leaves")
    func drain() throws { try Self.compare(PodRules().drain, with: "drain.nft") }

    @Test("of the node")
    func host() throws {
        let sources = [IPAddress("169.254.9.9")!, IPAddress("fd00::99")!]
        try Self.compare(HostRules(probeSources: sources).installation, with: "host.nft")
    }

    @Test("change only the probe exemptions that differ, and an address that changed hands in one step")
    func probes() {
        let a = IPAddress("10.0.0.1")!
        let b = IPAddress("10.0.0.2")!
        let c = IPAddress("fd00::3")!
        #expect(HostRules.change(from: [a: "u1"], to: [a: "u1"]) == nil)
        #expect(
            HostRules.change(from: [a: "u1", b: "u2"], to: [b: "u9", c: "u3"]) == """
                delete element inet martlet_host probes4 { 10.0.0.1 }
                delete element inet martlet_host probes4 { 10.0.0.2 }
                add element inet martlet_host probes4 { 10.0.0.2 comment "u9" }
                add element inet martlet_host probes6 { fd00::3 comment "u3" }

                """)
    }
}
