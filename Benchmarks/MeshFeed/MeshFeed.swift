import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Logging
import MeshCA
import MeshChannel
import MeshXDS

/// A control plane for benchmarks of the node proxy: the product's xDS server and CA over a mesh that is generated
/// instead of watched. Everybody is who they say.
///
/// Prints `listening`, then answers lines on standard input: `delta N` changes workload N and prints how long it
/// took until the proxy had applied and acknowledged it, as JSON.
@main
struct MeshFeed {
    static func main() async {
        do {
            try await Self.run(try Options(CommandLine.arguments.dropFirst()))
        } catch {
            FileHandle.standardError.write(Data("martlet-feed: \(error)\n".utf8))
            exit(2)
        }
    }

    struct Options {
        var directory = ""
        var port = 15012
        var workloads = 0
        var services = 0

        init(_ arguments: some Sequence<String>) throws {
            var rest = Array(arguments)[...]
            while let name = rest.popFirst() {
                guard let value = rest.popFirst() else { throw UsageError("\(name) needs a value") }
                func number(_ range: ClosedRange<Int>) throws -> Int {
                    guard let number = Int(value), range.contains(number) else {
                        throw UsageError("\(name) \(value): wanted \(range.lowerBound) to \(range.upperBound)")
                    }
                    return number
                }
                switch name {
                case "--directory": self.directory = value
                case "--port": self.port = try number(1...65_535)
                case "--workloads": self.workloads = try number(0...1_000_000)
                case "--services": self.services = try number(0...1_000_000)
                default: throw UsageError("unknown option \(name)")
                }
            }
            if self.directory.isEmpty { throw UsageError("--directory is missing") }
        }
    }

    struct UsageError: Error, CustomStringConvertible {
        let reason: String
        init(_ reason: String) { self.reason = reason }
        var description: String {
            "\(self.reason)\nusage: martlet-feed --directory DIR [--port N] [--workloads N] [--services N]"
        }
    }

    private struct Everybody: CallerAuthenticator {
        let wanted = "anything"

        func authenticate(bearer token: String, clusterID: String) async throws -> AuthenticatedCaller {
            AuthenticatedCaller(
                namespace: "istio-system", serviceAccount: "ztunnel", pod: .init(name: "ztunnel", uid: "1"))
        }
    }

    private struct EveryPod: PodDirectory {
        func pod(namespace: String, name: String) -> PodFacts? {
            PodFacts(uid: "1", serviceAccount: "ztunnel", node: "node-0")
        }
        func hasLivePod(namespace: String, serviceAccount: String, node: String) -> Bool { true }
    }

    private static func run(_ options: Options) async throws {
        var logger = Logger(label: "feed")
        logger.logLevel = .warning
        let authority = try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        let certificate = try authority.serverCertificate(dnsNames: ["localhost"])
        try Data(authority.rootsPEM.utf8).write(to: URL(fileURLWithPath: options.directory + "/root.pem"))
        try Data("token".utf8).write(to: URL(fileURLWithPath: options.directory + "/token"))

        let xds = XDSServer(.init(quiet: .zero), authenticator: Everybody(), logger: logger)
        let ca = CertificateService(
            authenticator: Everybody(), authority: { authority },
            rule: {
                ImpersonationRule(trustedAccounts: ["istio-system/ztunnel"], trustDomain: "cluster.local")
            }, pods: EveryPod(), logger: logger)
        let mesh = GeneratedMesh(workloadCount: options.workloads, serviceCount: options.services)
        xds.apply(.addresses(upserted: mesh.addresses, removed: []))
        xds.becomeReady()

        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: options.port),
            transportSecurity: .tls(
                certificateChain: [.bytes(Array(certificate.chainPEM.utf8), format: .pem)],
                privateKey: .bytes(Array(certificate.privateKeyPEM.utf8), format: .pem)),
            config: .defaults { config in
                // As the control plane: proxies ask every 30 s whether we live.
                config.connection.keepalive.clientBehavior = .init(
                    minPingIntervalWithoutCalls: .seconds(10), allowWithoutCalls: true)
            })
        let server = GRPCServer(transport: transport, services: [XDSService(xds), ca])
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.serve() }
            group.addTask { await xds.run() }
            group.addTask {
                _ = try await transport.listeningAddress
                Self.say("listening")
                var revision = 0
                for await line in Self.lines() {
                    guard line.hasPrefix("delta "), let index = Int(line.dropFirst(6)), index < mesh.workloadCount
                    else { throw UsageError("standard input: wanted delta and a workload's number, got \(line)") }
                    revision += 1
                    let sent = Self.pushes(xds)
                    let before = ContinuousClock.now
                    xds.apply(.addresses(upserted: [.workload(mesh.workload(index, revision: revision))], removed: []))
                    while Self.pushes(xds) == sent || !Self.isInSync(xds) {
                        try await Task.sleep(for: .microseconds(50))
                    }
                    let took = ContinuousClock.now - before
                    Self.say(
                        "{\"delta_ms\": \(Double(took.components.attoseconds) / 1e15 + Double(took.components.seconds) * 1e3)}"
                    )
                }
            }
            try await group.next()
            group.cancelAll()
        }
    }

    /// Lines of standard input; a thread of its own waits for them.
    private static func lines() -> AsyncStream<String> {
        AsyncStream { continuation in
            Thread.detachNewThread {
                while let line = readLine() { continuation.yield(line) }
                continuation.finish()
            }
        }
    }

    private static func pushes(_ xds: XDSServer) -> UInt64 {
        xds.clients.flatMap(\.types).reduce(0) { $0 + $1.resourcesSent }
    }

    private static func isInSync(_ xds: XDSServer) -> Bool {
        xds.clients.allSatisfy { $0.types.allSatisfy(\.isInSync) }
    }

    private static func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
}
