import Foundation
import LabNode
import Testing

@Suite("The lab's images of Argo CD and Argo Rollouts")
struct StandInTests {
    /// A source tree with nothing but the stand-in, and programs built in it.
    private func catalogue(_ body: (ImageCatalogue, String) throws -> Void) throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent("stand-ins-\(UUID().uuidString)")
        let folder = root.appendingPathComponent("Lab/StandIns")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: root) }
        let program = folder.appendingPathComponent("argo.py").path
        let isMade = FileManager.default.createFile(
            atPath: program, contents: Data("#!/bin/sh\n".utf8), attributes: [.posixPermissions: 0o755])
        #expect(isMade)
        try body(ImageCatalogue.builtIn(installation: root.path + "/.build/debug"), program)
    }

    @Test(
        "are one program under the names that it is started by",
        arguments: [
            ("quay.io/argoproj/argocd:v2.12.6", "argocd-server", [], 999),
            ("quay.io/argoproj/argocd:v2.12.6", "argocd", [], 999),
            ("ghcr.io/dexidp/dex:v2.38.0", "argocd-dex", [], 1001),
            ("redis:7.0.15-alpine", "redis-server", ["/usr/local/bin/redis-server"], 999),
            ("quay.io/argoproj/argo-rollouts", "rollouts-controller", ["/usr/local/bin/rollouts-controller"], 999),
        ] as [(String, String, [String], Int64)])
    func names(image: String, program: String, entrypoint: [String], user: Int64) throws {
        try self.catalogue { catalogue, source in
            let found = try catalogue.image(named: image)
            #expect(found.binds.contains(HostImage.Bind(source: source, target: "/usr/local/bin/\(program)")))
            #expect(found.entrypoint == entrypoint)
            #expect(found.user == user && found.group == user)
        }
    }
}
