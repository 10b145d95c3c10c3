import MeshProcess
import MeshProxy
import MeshXDS
import Testing

@Suite("What an operator sets for all proxies")
struct MeshProxyConfigTests {
    private static let meshFile = "./etc/istio/config/mesh"

    private func read(mesh: String? = nil, _ environment: [String: String] = [:]) throws -> ProxyConfiguration {
        try ProxyConfiguration(
            environment: environment, cores: 4, fileExists: { $0 == Self.meshFile && mesh != nil },
            readText: { _ in mesh ?? "" })
    }

    @Test("W18: PROXY_CONFIG wins over the mesh's file, and their metadata is united")
    func merged() throws {
        let mesh = """
            accessLogFile: /dev/stdout
            defaultConfig:
              discoveryAddress: from-mesh.example:15012
              proxyAdminPort: 15100
              statsPort: 15120
              concurrency: 3
              tracing: {}
              proxyMetadata:
                ONE: mesh
                TWO: mesh
                ISTIO_META_THREE: mesh
            """
        let only = try self.read(mesh: mesh)
        #expect(only.xds.host == "from-mesh.example" && only.ca.host == "localhost")
        #expect(only.adminPort == 15100 && only.statsPort == 15120 && only.workerThreads == 3)
        #expect(only.metadata == ["ONE": .string("mesh"), "TWO": .string("mesh"), "THREE": .string("mesh")])
        let both = try self.read(
            mesh: mesh,
            ["PROXY_CONFIG": #"{"discoveryAddress": "own.example", "concurrency": 0, "proxyMetadata": {"TWO": "own"}}"#]
        )
        #expect(both.xds.host == "own.example" && both.xds.port == 15012)
        #expect(both.adminPort == 15100 && both.statsPort == 15120 && both.workerThreads == 4)
        #expect(both.metadata == ["ONE": .string("mesh"), "TWO": .string("own"), "THREE": .string("mesh")])
    }

    @Test("the environment comes before both")
    func environment() throws {
        let configuration = try self.read(
            mesh: "defaultConfig:\n  concurrency: 1\n",
            [
                "PROXY_CONFIG": "discoveryAddress: a:1\nproxyMetadata:\n  X: config\n  DNS_CAPTURE: false\n",
                "XDS_ADDRESS": "https://b:2", "ISTIO_META_X": "environment", "ZTUNNEL_WORKER_THREADS": "2",
            ])
        #expect(configuration.xds.host == "b" && configuration.workerThreads == 2)
        #expect(configuration.metadata["X"] == .string("environment"))
        // Metadata that means something to the proxy means it from here too, and need not be quoted.
        #expect(configuration.dns == nil)
    }

    @Test("nothing is the same as not there", arguments: ["", " \n", "{}", "# nothing\n---\n{}"])
    func empty(text: String) throws {
        #expect(try self.read(mesh: text, ["PROXY_CONFIG": text]).workerThreads == 2)
    }

    @Test(
        "what does not fit stops the start, with the source and the field",
        arguments: [
            ("{", "YAML"), ("concurrency: many", "concurrency"), ("statsPort: 70000", "statsPort"),
            ("proxyAdminPort: 0", "proxyAdminPort"), ("proxyMetadata: [a]", "proxyMetadata"),
            ("proxyMetadata: {A: {B: c}}", "proxyMetadata.A"), ("- a", "Mapping"),
        ])
    func refused(text: String, field: String) {
        let own = #expect(throws: InvalidSetting.self) { try self.read(mesh: nil, ["PROXY_CONFIG": text]) }
        #expect(own?.name == "PROXY_CONFIG" && own?.wanted.contains(field) == true, "\(own?.wanted ?? "")")
        let indented = "defaultConfig:\n  " + text
        guard text.contains(": ") else { return }
        let mesh = #expect(throws: InvalidSetting.self) { try self.read(mesh: indented) }
        #expect(mesh?.name == Self.meshFile && mesh?.wanted.contains("defaultConfig.\(field)") == true)
    }

    @Test("a mesh's file that cannot be read stops the start")
    func unreadable() {
        struct Denied: Error {}
        let error = #expect(throws: InvalidSetting.self) {
            try ProxyConfiguration(
                environment: [:], cores: 4, fileExists: { $0 == Self.meshFile }, readText: { _ in throw Denied() })
        }
        #expect(error?.name == Self.meshFile)
    }
}
