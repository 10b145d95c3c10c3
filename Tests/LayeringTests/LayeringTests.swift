import Foundation
import Testing

/// The module list, top to bottom. A file may import only modules of lower lines; neighbours on a line do not know
/// each other, except where `allowed` gives the reason.
private let layers: [[String]] = [
    ["martlet", "martlet-cni", "martlet-lab"],
    ["LabCluster"],
    ["LabAPIServer", "LabControllers", "LabNode"],
    ["MeshTestSupport"],
    ["MeshProxy", "MeshWaypoint", "MeshAgent", "MeshControl", "MeshNode", "MeshCLI"],
    // What roles share, since they cannot see each other: the mesh as it was told, certificates, a process's life.
    ["MeshDirectory", "MeshCertificates", "MeshProcess", "MeshInjection"],
    [
        "MeshXDS", "MeshEnvoy", "MeshTokens", "MeshZDS", "MeshCA", "KubeClient", "MeshTelemetry", "MeshNameService",
        "MeshCNI",
    ],
    ["MeshProto", "MeshChannel", "KubeAPI"],
    ["MeshExchange"],
    ["MeshTunnel"],
    ["MeshRoutes"],
    ["MeshHTTP"],
    ["MeshLoop"],
    ["CMeshLoop"],
    ["MeshPolicy", "MeshCollections", "MeshDNS"],
    ["MeshModel"],
    ["MeshIdentity"],
    ["MeshLinux"],
    ["CMeshLinux", "CLabNode"],
]

/// Modules that a target must not see, and why.
private let forbidden: [(target: String, modules: Set<String>, reason: String)] = [
    (
        "MeshTunnel", ["Foundation", "NIOCore", "GRPCCore", "SwiftProtobuf", "KubeAPI"],
        "it is the byte path: it asks through its own protocols"
    ),
    ("MeshHTTP", ["Foundation", "NIOCore", "Glibc"], "it is a codec without I/O"),
    (
        "MeshExchange", ["Foundation", "NIOCore", "GRPCCore", "SwiftProtobuf", "KubeAPI"],
        "it is the byte path: it asks through its own protocols"
    ),
    ("MeshRoutes", ["Foundation", "NIOCore", "Glibc"], "decisions are pure"),
    ("MeshLoop", ["Foundation", "NIOCore", "GRPCCore"], "it is the byte path"),
    ("MeshPolicy", ["Foundation", "NIOCore", "Glibc"], "decisions are pure"),
    ("MeshDNS", ["Foundation", "NIOCore", "Glibc"], "names are decided without I/O"),
    ("MeshModel", ["Foundation", "NIOCore", "Glibc"], "values know nothing"),
    ("MeshIdentity", ["Foundation", "NIOCore", "Glibc"], "values know nothing"),
    ("MeshCollections", ["Foundation", "KubeAPI", "KubeClient", "NIOCore"], "derived collections know no Kubernetes"),
    ("KubeAPI", ["Foundation", "NIOCore"], "the CNI plugin carries it and starts in milliseconds"),
    ("MeshLinux", ["Foundation", "NIOCore"], "the CNI plugin carries it and starts in milliseconds"),
    ("MeshCNI", ["Foundation", "NIOCore", "KubeClient"], "it is the CNI plugin"),
    ("martlet-cni", ["Foundation", "NIOCore", "KubeClient"], "the container runtime waits for it at every pod start"),
]

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

private struct Source {
    let target: String
    let path: String
    let imports: [String]
}

private func sources() throws -> [Source] {
    var found: [Source] = []
    for folder in ["Sources", "Lab"] {
        let base = root.appendingPathComponent(folder)
        let files = FileManager.default.enumerator(at: base, includingPropertiesForKeys: nil)!
        for case let file as URL in files where file.pathExtension == "swift" {
            let relative = file.path.dropFirst(base.path.count + 1)
            let text = try String(contentsOf: file, encoding: .utf8)
            let imports = text.split(separator: "\n").compactMap { line -> String? in
                let words = line.split(separator: " ")
                guard let at = words.firstIndex(of: "import"), at <= 2, words.count > at + 1,
                    words[..<at].allSatisfy({
                        ["public", "package", "internal", "private", "@preconcurrency"].contains($0)
                    })
                else { return nil }
                // `import struct Foundation.Data` names the module before the dot.
                let kinds = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
                let name = kinds.contains(String(words[at + 1])) && words.count > at + 2 ? words[at + 2] : words[at + 1]
                return String(name.split(separator: ".")[0])
            }
            found.append(
                Source(target: String(relative.split(separator: "/")[0]), path: String(relative), imports: imports))
        }
    }
    return found
}

@Suite("The module list")
struct LayeringTests {
    @Test("has only arrows that point down")
    func arrows() throws {
        let height = Dictionary(
            uniqueKeysWithValues: layers.enumerated().flatMap { line, names in names.map { ($0, line) } })
        for source in try sources() {
            guard let own = height[source.target] else {
                Issue.record(
                    "target \(source.target) (\(source.path)) is not in the module list: add it where it belongs")
                continue
            }
            for module in source.imports {
                guard let other = height[module], module != source.target else { continue }
                #expect(
                    other > own,
                    "\(source.path) imports \(module): arrows point only down the module list (docs/architecture.md)")
            }
        }
    }

    @Test("keeps each target free of what it must not know")
    func fences() throws {
        let all = try sources()
        for (target, modules, reason) in forbidden {
            for source in all where source.target == target {
                for module in source.imports where modules.contains(module) {
                    Issue.record("\(source.path) imports \(module), but \(reason)")
                }
            }
        }
    }

    @Test("lets protobuf messages go no further than the conversations")
    func protobufStaysOutside() throws {
        for source in try sources() where source.imports.contains("MeshProto") {
            #expect(
                ["MeshXDS", "MeshEnvoy", "MeshZDS", "MeshCA"].contains(source.target),
                "\(source.path) imports MeshProto: past the conversations a message is a MeshModel value")
        }
    }
}
