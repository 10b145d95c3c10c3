import ArgumentParser
import Foundation
import KubeAPI
package import KubeClient
package import MeshInjection

struct KubeInjectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kube-inject", abstract: "Put sidecars into a file of manifests, as the webhook would.",
        discussion: """
            Settings come from the cluster's ConfigMaps, or from files. What makes no pods passes unchanged, and so do pods \
            that say they want no sidecar.
            """)

    @OptionGroup var global: GlobalOptions
    @Option(name: [.short, .long], help: "Manifests, - for standard input.") var filename: String
    @Option(name: [.short, .long], help: "Where the result goes (default: standard output).") var output: String?
    @Option(name: .customLong("injectConfigFile"), help: "Key \"config\" of ConfigMap istio-sidecar-injector.")
    var injectConfigFile: String?
    @Option(name: .customLong("valuesFile"), help: "Key \"values\" of ConfigMap istio-sidecar-injector.")
    var valuesFile: String?
    @Option(name: .customLong("meshConfigFile"), help: "Key \"mesh\" of ConfigMap istio.") var meshConfigFile: String?
    @Option(name: .customLong("meshConfigMapName"), help: "ConfigMap with MeshConfig.") var meshConfigMapName = "istio"
    @Option(name: [.short, .long], help: "Only the default revision exists.") var revision = "default"

    func run() async throws {
        let text = try Self.read(self.filename)
        let settings: InjectionSettings
        var mesh: InjectionMesh
        if let config = self.injectConfigFile, let values = self.valuesFile, let meshFile = self.meshConfigFile {
            settings = try InjectionSettings(
                data: ["config": try Self.read(config), "values": try Self.read(values)])
            mesh = try InjectionSources.mesh(
                yaml: try Self.read(meshFile), settings, namespace: self.global.istioNamespace)
        } else if self.injectConfigFile == nil, self.valuesFile == nil, self.meshConfigFile == nil {
            (settings, mesh) = try await self.global.withCluster { cluster in
                try await InjectionSources(
                    cluster: cluster, namespace: self.global.istioNamespace, meshConfigMap: self.meshConfigMapName
                ).read()
            }
        } else {
            throw ValidationError(
                "--injectConfigFile, --valuesFile and --meshConfigFile belong together: give all or none")
        }
        mesh.revision = self.revision
        let terminal = Terminal()
        var notes: [String] = []
        let injector = FileInjector(SidecarInjector(settings, mesh))
        var results: [String] = []
        for document in try JSONValue.documents(yaml: text) {
            results.append(try injector.inject(document, notes: &notes).yaml)
        }
        for note in notes { terminal.warn(note) }
        let result = results.joined(separator: "---\n")
        guard let output else {
            print(result, terminator: "")
            return
        }
        do {
            try result.write(toFile: output, atomically: true, encoding: .utf8)
        } catch {
            throw CommandError("cannot write \(output): \(error.localizedDescription)")
        }
    }

    private static func read(_ name: String) throws -> String {
        if name == "-" {
            return String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self)
        }
        do {
            return try String(contentsOfFile: name, encoding: .utf8)
        } catch {
            throw CommandError("cannot read \(name): \(error.localizedDescription)")
        }
    }
}

/// What a cluster's injector works with, read from its ConfigMaps.
package struct InjectionSources {
    package let cluster: any KubeCluster
    package let namespace: String
    package var meshConfigMap = "istio"

    package init(cluster: any KubeCluster, namespace: String, meshConfigMap: String = "istio") {
        self.cluster = cluster
        self.namespace = namespace
        self.meshConfigMap = meshConfigMap
    }

    package func read() async throws -> (InjectionSettings, InjectionMesh) {
        func map(_ name: String) async throws -> [String: String] {
            guard let map = try await self.cluster.find(.configMaps, namespace: self.namespace, name: name) else {
                throw CommandError(
                    "ConfigMap \(self.namespace)/\(name) is missing; install the mesh first, name another namespace with -i, "
                        + "or give files (--injectConfigFile, --valuesFile, --meshConfigFile)")
            }
            return map.json["data"]?.stringMap ?? [:]
        }
        let settings = try InjectionSettings(data: try await map(InjectionSettings.configMapName))
        let config = try await map(self.meshConfigMap)["mesh"] ?? ""
        var mesh = try Self.mesh(yaml: config, settings, namespace: self.namespace)
        let nodes = try await self.cluster.list(.nodes).items
        mesh.runsNativeSidecars = !nodes.isEmpty && nodes.allSatisfy { NativeSidecars.run(on: $0) }
        return (settings, mesh)
    }

    package static func mesh(
        yaml: String, _ settings: InjectionSettings, namespace: String
    ) throws -> InjectionMesh {
        var mesh = InjectionMesh()
        mesh.meshConfig = try JSONValue(yaml: yaml)
        mesh.controlPlaneNamespace = namespace
        mesh.trustDomain = mesh.meshConfig["trustDomain"]?.string ?? mesh.trustDomain
        mesh.network = settings.network
        mesh.clusterID = settings.clusterID ?? mesh.clusterID
        mesh.domainSuffix = settings.clusterDomain ?? mesh.domainSuffix
        return mesh
    }
}
