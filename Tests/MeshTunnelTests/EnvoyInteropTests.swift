import Foundation
import MeshIdentity
import MeshModel
import MeshTestSupport
import MeshTunnel
import Testing

/// Envoy as the peer: once as the client of our HBONE port, once as the server of our tunnels.
///
/// Needs the Envoy program: `ENVOY_BIN`, or `envoy` on the path.
@Suite(
    "With Envoy at the other end", .serialized, .timeLimit(.minutes(5)),
    .enabled(if: Envoy.path != nil, "SKIPPED: NO ENVOY. Set ENVOY_BIN to an Envoy program to test against it."))
struct EnvoyTests {
    @Test("Envoy dials our HBONE port: bytes intact, half-close and many connections")
    func envoyIsClient() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let pods = try TwoPods(target: echo.port, ca: ca)
        let envoy = try await Envoy(ca.issue(TwoPods.clientIdentity)) { port in
            """
            static_resources:
              listeners:
              - name: out
                address: {socket_address: {address: 127.0.0.1, port_value: \(port)}}
                filter_chains:
                - filters:
                  - name: envoy.filters.network.tcp_proxy
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                      stat_prefix: out
                      cluster: hbone
                      tunneling_config: {hostname: "127.0.0.1:\(echo.port)"}
              clusters:
              - name: hbone
                type: STATIC
                connect_timeout: 5s
                typed_extension_protocol_options:
                  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
                    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
                    explicit_http_config: {http2_protocol_options: {allow_connect: true}}
                transport_socket:
                  name: envoy.transport_sockets.tls
                  typed_config:
                    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
                    common_tls_context:
            \(Envoy.tls(indent: 10))
                load_assignment:
                  cluster_name: hbone
                  endpoints:
                  - lb_endpoints:
                    - endpoint:
                        address: {socket_address: {address: 127.0.0.1, port_value: \(pods.serverPorts.inboundTunnel)}}
            """
        }
        try await self.exchange { try BlockingSocket.connect(port: envoy.port) }
        let log = await pods.serverObserver.wait { $0.closed.count == 21 && $0.open.isEmpty }
        #expect(log.closed.allSatisfy { $0.end.error == nil && $0.record.peerIdentity == TwoPods.clientIdentity })
        await envoy.stop()
        _ = await pods.stop()
    }

    @Test("we dial Envoy's HBONE port: bytes intact, half-close and many connections")
    func envoyIsServer() async throws {
        let ca = try TestCA()
        let echo = try BlockingServer.echo()
        let envoy = try await Envoy(ca.issue(TwoPods.serverIdentity)) { port in
            """
            static_resources:
              listeners:
              - name: in
                address: {socket_address: {address: 127.0.0.1, port_value: \(port)}}
                filter_chains:
                - transport_socket:
                    name: envoy.transport_sockets.tls
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
                      require_client_certificate: true
                      common_tls_context:
            \(Envoy.tls(indent: 12))
                  filters:
                  - name: envoy.filters.network.http_connection_manager
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                      stat_prefix: in
                      codec_type: HTTP2
                      upgrade_configs: [{upgrade_type: CONNECT}]
                      http2_protocol_options: {allow_connect: true, max_concurrent_streams: 100}
                      route_config:
                        virtual_hosts:
                        - name: all
                          domains: ["*"]
                          routes:
                          - match: {connect_matcher: {}}
                            route:
                              cluster: workload
                              timeout: 0s
                              upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]
                      http_filters:
                      - name: envoy.filters.http.router
                        typed_config:
                          "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              clusters:
              - name: workload
                type: STATIC
                connect_timeout: 5s
                load_assignment:
                  cluster_name: workload
                  endpoints:
                  - lb_endpoints:
                    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: \(echo.port)}}}
            """
        }
        let pods = try TwoPods(
            target: echo.port, ca: ca,
            route: { _, good in
                var route = good
                route.peer = IPEndpoint(address: TwoPods.loopback, port: envoy.port)
                return .tunnel(route)
            })
        try await self.exchange { try pods.connect() }
        let log = await pods.clientObserver.wait { $0.closed.count == 21 && $0.open.isEmpty }
        #expect(log.closed.allSatisfy { $0.end.error == nil && $0.record.peerIdentity == TwoPods.serverIdentity })
        #expect(pods.client.statistics.outboundHandshakes == 1)
        await envoy.stop()
        _ = await pods.stop()
    }

    /// 8 MB through one connection, then twenty short ones.
    private func exchange(_ connect: @escaping @Sendable () throws -> BlockingSocket) async throws {
        let sent = patternBytes(8 << 20, seed: 21)
        let socket = try connect()
        async let received = offThread { try socket.receiveToEnd() }
        try await offThread {
            try socket.send(sent)
            socket.finishWriting()
        }
        let isIntact = try await received == sent
        #expect(isIntact)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for seed in 0..<20 as Range<UInt64> {
                group.addTask {
                    try await offThread {
                        let socket = try connect()
                        let bytes = patternBytes(5_000, seed: seed)
                        try socket.send(bytes)
                        socket.finishWriting()
                        return try socket.receiveToEnd() == bytes
                    }
                }
            }
            for try await isIntact in group { #expect(isIntact) }
        }
    }
}

/// A running Envoy, in a folder of its own, with a certificate of the test's authority.
final class Envoy: Sendable {
    static let path: String? = {
        let environment = ProcessInfo.processInfo.environment
        if let path = environment["ENVOY_BIN"] { return path }
        return (environment["PATH"] ?? "").split(separator: ":").map { "\($0)/envoy" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    let port: UInt16
    private let folder: URL
    private let pid: pid_t

    /// - Parameter configuration: from the port that it is to listen on. Returns once Envoy listens.
    init(_ issued: TestCA.Issued, _ configuration: (UInt16) -> String) async throws {
        let port = try BlockingServer.echo().port  // free again
        let folder = FileManager.default.temporaryDirectory.appending(path: "martlet-envoy-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        func write(_ name: String, _ text: String) throws {
            try text.write(to: folder.appending(path: name), atomically: true, encoding: .utf8)
        }
        try write("chain.pem", issued.chain.map { Self.pem("CERTIFICATE", $0) }.joined())
        try write("key.pem", Self.pem("PRIVATE KEY", issued.privateKey))
        try write("roots.pem", issued.roots.map { Self.pem("CERTIFICATE", $0) }.joined())
        try write("envoy.yaml", configuration(port))
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.path ?? "envoy")
        process.currentDirectoryURL = folder
        process.arguments = [
            "-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning",
        ]
        try process.run()
        self.port = port
        self.folder = folder
        self.pid = process.processIdentifier
        try await eventually { !process.isRunning || (try? BlockingSocket.connect(port: port)) != nil }
        if !process.isRunning { Issue.record("Envoy ended: look at its output above") }
    }

    func stop() async {
        kill(self.pid, SIGKILL)
        try? FileManager.default.removeItem(at: self.folder)
    }

    deinit { kill(self.pid, SIGKILL) }

    private static func pem(_ label: String, _ der: [UInt8]) -> String {
        "-----BEGIN \(label)-----\n\(Data(der).base64EncodedString(options: .lineLength64Characters))\n"
            + "-----END \(label)-----\n"
    }

    /// The body of a `common_tls_context`.
    static func tls(indent: Int) -> String {
        [
            "alpn_protocols: [h2]",
            "tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}",
            "tls_certificates:",
            "- certificate_chain: {filename: chain.pem}",
            "  private_key: {filename: key.pem}",
            "validation_context:",
            "  trusted_ca: {filename: roots.pem}",
        ].map { String(repeating: " ", count: indent) + $0 }.joined(separator: "\n")
    }
}
