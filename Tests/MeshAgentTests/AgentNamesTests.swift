import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Logging
import MeshAgent
import MeshChannel
import MeshDNS
import MeshEnvoy
import MeshModel
import MeshNameService
import MeshTelemetry
import MeshXDS
import NIOPosix
import Synchronization
import Testing

/// The agent's name service over loopback, between a control plane and a resolver that are real but for what they say.
@Suite("Names that the agent answers", .timeLimit(.minutes(5)))
struct AgentNamesTests {
    private static let pod = "foo/sleep-1"
    private static let many = (0..<200).map { IPAddress("10.9.\($0 / 100).\($0 % 100 + 1)")! }

    /// A resolver that knows an address of every name, or two hundred of one that begins with `many`.
    private final class Resolver: NameAnswers {
        private let asked = Mutex<[String]>([])
        /// `<name> <transport>`, in order.
        var questions: [String] { self.asked.withLock { $0 } }

        func decide(_ bytes: [UInt8], over transport: DNSTransport) -> DNSDecision {
            guard let query = try? DNSQuery(bytes), let (name, _) = query.addressQuestion else { return .ignore }
            self.asked.withLock { $0.append("\(name) \(transport.rawValue)") }
            let addresses = "\(name)".hasPrefix("many") ? AgentNamesTests.many : [IPAddress("9.9.9.9")!]
            return .reply(
                DNSWriter.answer(
                    MeshAnswer(addresses: addresses, zoneLabels: 1, hostname: ""), to: query, bytes,
                    bytesMax: query.answerBytesMax(over: transport)))
        }
        func forwarding(_ request: DNSForwardRequest) {}
        func forwarded(_ request: DNSForwardRequest, seconds: Double) {}
        func failed(_ request: DNSForwardRequest, _ failure: DNSForwardFailure) {}
    }

    /// An agent's name service, whom it asks, and who asks it.
    private final class Bench {
        let resolver: Resolver
        let xds: XDSServer
        let registry: MetricsRegistry
        let service: AgentNameService
        private let upstream: DNSServer
        private let client: DNSForwarder
        private let server: GRPCServer<HTTP2ServerTransport.Posix>
        private let serving: Task<Void, any Error>
        private let tasks: [Task<Void, Never>]
        private let folder: URL

        init() async throws {
            let (resolver, registry) = (Resolver(), MetricsRegistry())
            (self.resolver, self.registry) = (resolver, registry)
            // Nothing is asked twice, however slow the machine is.
            var limits = DNSLimits()
            (limits.upstreamTimeout, limits.attemptTimeout) = (.seconds(240), .seconds(240))
            let patient = limits
            let group = MultiThreadedEventLoopGroup.singleton
            var listening = DNSListening()
            (listening.port, listening.reusesPort) = (0, false)
            listening.address = IPAddress("127.0.0.1")!
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            func onFreePort<Value>(_ body: () throws -> Value) throws -> Value {
                // The UDP port beside a free TCP port may be somebody's.
                for _ in 0..<50 { if let value = try? body() { return value } }
                return try body()
            }
            let (upstream, port) = try onFreePort {
                try DNSServer.start(
                    pod: "upstream", resolver, listening,
                    forwarder: DNSForwarder(resolvers: [], limits: DNSLimits(), group: group), log: logger,
                    namespace: nil, loop: group.next())
            }
            self.upstream = upstream
            let xds = XDSServer(
                .init(), authenticator: AnyToken(), admission: { _, _, _ in .sidecar(AgentNamesTests.pod) },
                logger: logger)
            self.xds = xds
            let transport = HTTP2ServerTransport.Posix(
                address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext)
            let server = GRPCServer(transport: transport, services: [XDSService(xds)])
            self.server = server
            self.serving = Task { try await server.serve() }
            self.folder = FileManager.default.temporaryDirectory.appending(path: "names-\(UUID())")
            try FileManager.default.createDirectory(at: self.folder, withIntermediateDirectories: true)
            let (token, resolvConf) = (
                self.folder.appending(path: "token").path, self.folder.appending(path: "resolv.conf").path
            )
            try "a token".write(toFile: token, atomically: true, encoding: .utf8)
            try "nameserver 192.0.2.1\nsearch foo.svc.cluster.local cluster.local corp.example\n".write(
                toFile: resolvConf, atomically: true, encoding: .utf8)
            var configuration = try AgentConfiguration(
                environment: [
                    "POD_NAME": "sleep-1", "POD_NAMESPACE": "foo", "SERVICE_ACCOUNT": "sleep",
                    "INSTANCE_IP": "10.42.0.5", "ISTIO_META_DNS_CAPTURE": "true",
                ], arguments: ["sidecar"])
            #expect(configuration.capturesNames)
            configuration.xds = ControlPlaneEndpoint(
                host: "127.0.0.1", port: try await transport.listeningAddress.ipv4?.port ?? 0, roots: .plaintext,
                token: .file(token), clusterID: "")
            (configuration.namesPort, configuration.isIPv6Enabled) = (0, false)
            configuration.resolverFile = resolvConf
            let complete = configuration
            let service = try onFreePort {
                try AgentNameService(
                    complete, registry, MeshLog(destination: Nowhere()),
                    resolvers: [IPEndpoint(address: IPAddress("127.0.0.1")!, port: port)], limits: patient)
            }
            self.service = service
            self.client = DNSForwarder(
                resolvers: [IPEndpoint(address: IPAddress("127.0.0.1")!, port: service.port)], limits: patient,
                group: group)
            self.tasks = [Task { await xds.run() }, Task { await service.run() }]
            // Its own part, without which no sidecar is served.
            xds.apply(
                envoys: SidecarLayer.pod(AgentNamesTests.pod),
                [
                    .init(type: XDSType.cluster, name: "x"): EncodedResource(
                        type: XDSType.cluster, name: "x", bytes: [])
                ])
        }

        func stop() async {
            for task in self.tasks { task.cancel() }
            for task in self.tasks { await task.value }
            await self.server.end(self.serving)
            await self.service.close()
            try? await self.upstream.loop.submit { [upstream] in upstream.close() }.get()
            try? FileManager.default.removeItem(at: self.folder)
        }

        func publish(_ layer: String, _ hosts: [String: [IPAddress]]?) {
            let resource = EnvoyResource(NameTable((hosts ?? [:]).mapValues { .init($0) }))
            self.xds.apply(
                envoys: layer,
                [
                    .init(type: resource.type, name: resource.name): hosts == nil
                        ? nil : EncodedResource(type: resource.type, name: resource.name, bytes: resource.bytes)
                ])
        }

        func ask(_ name: String, _ type: DNSRecordType = .a) async throws -> [String] {
            try await self.client.resolve(name, type).addresses.map(\.description).sorted()
        }

        /// Until the name has these addresses.
        func wait(_ name: String, _ wanted: [String]) async throws {
            while try await self.ask(name) != wanted { try await Task.sleep(for: .milliseconds(5)) }
        }
    }

    private struct Nowhere: LogDestination { func write(_ bytes: [UInt8]) {} }

    private func withBench(_ body: (Bench) async throws -> Void) async throws {
        let bench = try await Bench()
        do { try await body(bench) } catch {
            await bench.stop()
            throw error
        }
        await bench.stop()
    }

    @Test(
        "before the first table go to the resolver; then those of the mesh are answered, and only the others go there")
    func table() async throws {
        try await self.withBench { bench in
            #expect(try await bench.ask("api.example.com") == ["9.9.9.9"])
            #expect(bench.resolver.questions == ["api.example.com. udp"])
            bench.publish(
                SidecarLayer.mesh,
                [
                    "api.example.com": [IPAddress("240.240.0.1")!], "*.wild.example.com": [IPAddress("240.240.0.2")!],
                    "web.foo.svc.cluster.local": [IPAddress("10.96.0.1")!, IPAddress("10.96.0.2")!],
                ])
            bench.xds.becomeReady()
            try await bench.wait("api.example.com", ["240.240.0.1"])
            let before = bench.resolver.questions.count
            #expect(try await bench.ask("a.wild.example.com") == ["240.240.0.2"])
            for name in ["web", "web.foo", "web.foo.svc.cluster.local", "web.foo.foo.svc.cluster.local"] {
                #expect(try await bench.ask(name) == ["10.96.0.1", "10.96.0.2"], "\(name)")
            }
            #expect(try await bench.ask("api.example.com.corp.example") == ["240.240.0.1"])
            #expect(try await bench.ask("api.example.com", .aaaa) == [])
            #expect(bench.resolver.questions.count == before)
            #expect(try await bench.ask("other.example.com") == ["9.9.9.9"])
            #expect(bench.resolver.questions.last == "other.example.com. udp")
            let metrics = bench.registry.text(.prometheus)
            #expect(metrics.contains("istio_agent_dns_upstream_requests_total \(before + 1)\n"), "\(metrics)")
        }
    }

    @Test("answers that no datagram holds come over TCP, ours and the resolver's")
    func overTCP() async throws {
        try await self.withBench { bench in
            let all = Self.many.map(\.description).sorted()
            #expect(try await bench.ask("many.example.com") == all)
            #expect(bench.resolver.questions == ["many.example.com. udp", "many.example.com. tcp"])
            bench.publish(SidecarLayer.mesh, ["many.foo.svc.cluster.local": Self.many])
            bench.xds.becomeReady()
            try await bench.wait("many", all)
        }
    }

    @Test("a namespace's own table goes before everybody's; what is in neither any more goes to the resolver")
    func layers() async throws {
        try await self.withBench { bench in
            bench.publish(SidecarLayer.mesh, ["a.b": [IPAddress("10.0.0.1")!]])
            bench.xds.becomeReady()
            try await bench.wait("a.b", ["10.0.0.1"])
            bench.publish(SidecarLayer.namespace("foo"), ["a.b": [IPAddress("10.0.0.2")!]])
            try await bench.wait("a.b", ["10.0.0.2"])
            bench.publish(SidecarLayer.namespace("foo"), nil)
            try await bench.wait("a.b", ["10.0.0.1"])
            bench.publish(SidecarLayer.mesh, nil)
            try await bench.wait("a.b", ["9.9.9.9"])
        }
    }

    @Test("stay answered while the control plane is away, which hears nothing of names but from who asked for them")
    func away() async throws {
        try await self.withBench { bench in
            bench.publish(SidecarLayer.mesh, ["a.b": [IPAddress("10.0.0.1")!]])
            bench.xds.becomeReady()
            try await bench.wait("a.b", ["10.0.0.1"])
            // The status is written when the answer is out already.
            while bench.xds.clients.map({ $0.types.map(\.type) }) != [[XDSType.names]] {
                try await Task.sleep(for: .milliseconds(5))
            }
            bench.xds.drain()
            while !bench.xds.clients.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
            #expect(try await bench.ask("a.b") == ["10.0.0.1"])
        }
    }

    @Test("are ours only where the setting says so", arguments: [("true", true), ("false", false), ("1", false)])
    func setting(value: String, isOn: Bool) throws {
        let configuration = try AgentConfiguration(
            environment: [
                "POD_NAME": "a", "POD_NAMESPACE": "b", "SERVICE_ACCOUNT": "c", "INSTANCE_IP": "10.0.0.1",
                "ISTIO_META_DNS_CAPTURE": value,
            ], arguments: ["sidecar"])
        #expect(configuration.capturesNames == isOn)
    }
}
