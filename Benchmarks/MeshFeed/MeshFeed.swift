import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Logging
import MeshCA
import MeshChannel
import MeshXDS

/// A control plane for benchmarks of node proxies and waypoints: the product's xDS server and CA, without a cluster.
/// Everybody is who they say.
///
/// Prints `listening`, then reads lines from standard input. What they mean depends on what is served:
/// ``GeneratedFeed`` or ``ObjectFeed``.
@main
struct MeshFeed {
    static func main() async {
        do {
            try await Self.run(try FeedOptions(CommandLine.arguments.dropFirst()))
        } catch {
            FileHandle.standardError.write(Data("martlet-feed: \(error)\n".utf8))
            exit(2)
        }
    }

    private static func run(_ options: FeedOptions) async throws {
        var logger = Logger(label: "feed")
        logger.logLevel = .warning
        let authority = try Self.authority(options)
        let certificate = try authority.serverCertificate(dnsNames: ["localhost"])
        try Data(authority.rootsPEM.utf8).write(to: URL(fileURLWithPath: options.directory + "/root.pem"))
        try Data("token".utf8).write(to: URL(fileURLWithPath: options.directory + "/token"))

        let feed: any Feed
        if let path = options.objects {
            feed = try await ObjectFeed(objects: path, logger: logger)
        } else {
            feed = GeneratedFeed(
                GeneratedMesh(workloadCount: options.workloads, serviceCount: options.services), logger: logger)
        }
        let xds = feed.xds
        let ca = CertificateService(
            authenticator: Everybody(caller: feed.caller), authority: { authority },
            rule: {
                ImpersonationRule(trustedAccounts: ["istio-system/ztunnel"], trustDomain: "cluster.local")
            }, pods: EveryPod(), logger: logger)
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
                for await line in Self.lines() {
                    if let answer = try await feed.apply(line: line) { Self.say(answer) }
                }
            }
            try await group.next()
            group.cancelAll()
        }
    }

    private static func authority(_ options: FeedOptions) throws -> CertificateAuthority {
        guard let files = options.authority else {
            return try CertificateAuthority.selfSigned(trustDomain: "cluster.local")
        }
        return try CertificateAuthority(
            certificatePEM: try String(contentsOfFile: files.certificate, encoding: .utf8),
            privateKeyPEM: try String(contentsOfFile: files.key, encoding: .utf8))
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

    private static func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }
}

/// What is served, and what standard input changes of it.
protocol Feed: Sendable {
    var xds: XDSServer { get }
    /// Who every client is taken for.
    var caller: AuthenticatedCaller { get }
    /// - Returns: what to print, if anything.
    func apply(line: String) async throws -> String?
}

/// Takes every token for the same caller's.
struct Everybody: CallerAuthenticator {
    let caller: AuthenticatedCaller
    let wanted = "anything"

    func authenticate(bearer token: String, clusterID: String) async throws -> AuthenticatedCaller { self.caller }
}

/// Whoever asks has a pod on the first node.
private struct EveryPod: PodDirectory {
    func pod(namespace: String, name: String) -> PodFacts? {
        PodFacts(uid: "1", serviceAccount: "ztunnel", node: "node-0")
    }
    func hasLivePod(namespace: String, serviceAccount: String, node: String) -> Bool { true }
}
