internal import Foundation

/// A running Envoy as one half of an HBONE pair, with a certificate of the test's authority.
package final class Envoy: Sendable {
    /// `ENVOY_BIN`, or `envoy` where programs are.
    package static let path = ProcessInfo.processInfo.environment["ENVOY_BIN"] ?? PeerProgram.find("envoy")

    package struct DidNotStart: Error, CustomStringConvertible {
        package var description: String
    }

    /// Stays ours when Envoy is stopped, so that another can be started there.
    package let reserved: ReservedPort
    package var port: UInt16 { self.reserved.port }
    private let folder: PeerFolder
    private let process: ChildProgram

    /// Listens on `reserved` (nil: another free port) for HBONE, and dials the authority of each CONNECT.
    package static func server(_ issued: TestCA.Issued, at reserved: ReservedPort? = nil) async throws -> Envoy {
        try await Envoy(issued, at: reserved) { Self.serverConfiguration(port: $0) }
    }

    /// Listens for plain TCP; each connection is a CONNECT for `authority` at the HBONE port `peer` of 127.0.0.1.
    package static func client(_ issued: TestCA.Issued, authority: String, peer: UInt16) async throws -> Envoy {
        try await Envoy(issued, at: nil) { Self.clientConfiguration(port: $0, authority: authority, peer: peer) }
    }

    /// Returns once Envoy listens.
    private init(
        _ issued: TestCA.Issued, at reserved: ReservedPort?, _ configuration: (UInt16) -> String
    ) async throws {
        guard let path = Self.path else { throw DidNotStart(description: "there is no Envoy") }
        let reserved = try reserved ?? ReservedPort()
        let port = reserved.port
        let folder = try PeerFolder(issued)
        try folder.write("envoy.yaml", configuration(port))
        let process = try ChildProgram(
            [path, "-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"],
            in: folder.url.path)
        self.reserved = reserved
        self.folder = folder
        self.process = process
        while process.isRunning, (try? BlockingSocket.connect(port: port)) == nil {
            try await Task.sleep(for: .milliseconds(2))
        }
        if !process.isRunning {
            throw DidNotStart(description: "\(path) ended with status \(process.waitStatus ?? 0); its reason is above")
        }
    }

    /// Cuts every connection and frees the port.
    package func stop() async {
        let process = self.process
        try? await offThread { process.stop() }
    }
}

extension Envoy {
    /// Of ``client(_:authority:peer:)``, for a folder of a peer.
    package static func clientConfiguration(
        port: UInt16, authority: String, host: String = "127.0.0.1", peer: UInt16
    ) -> String {
        """
        static_resources:
          listeners:
          - name: out
            address: {socket_address: {address: 127.0.0.1, port_value: \(port)}}
            enable_reuse_port: true
            filter_chains:
            - filters:
              - name: envoy.filters.network.tcp_proxy
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                  stat_prefix: out
                  cluster: hbone
                  tunneling_config: {hostname: "\(authority)"}
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
        \(Self.tls(indent: 10))
            load_assignment:
              cluster_name: hbone
              endpoints:
              - lb_endpoints:
                - endpoint:
                    address: {socket_address: {address: \(host), port_value: \(peer)}}
        """
    }

    /// Of ``server(_:at:)``, for a folder of a peer.
    package static func serverConfiguration(host: String = "127.0.0.1", port: UInt16) -> String {
        """
        static_resources:
          listeners:
          - name: in
            address: {socket_address: {address: \(host), port_value: \(port)}}
            enable_reuse_port: true
            filter_chains:
            - transport_socket:
                name: envoy.transport_sockets.tls
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
                  require_client_certificate: true
                  common_tls_context:
        \(Self.tls(indent: 12))
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
                  # The authority of CONNECT becomes the address that the cluster dials.
                  - name: set_destination
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
                      on_request_headers:
                      - object_key: envoy.network.transport_socket.original_dst_address
                        format_string: {text_format_source: {inline_string: "%REQ(:AUTHORITY)%"}}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          clusters:
          - name: workload
            type: ORIGINAL_DST
            lb_policy: CLUSTER_PROVIDED
            connect_timeout: 5s
        """
    }

    /// The body of a `common_tls_context`; peers must be of the trust domain of the tests.
    private static func tls(indent: Int) -> String {
        [
            "alpn_protocols: [h2]",
            "tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}",
            "tls_certificates:",
            "- certificate_chain: {filename: chain.pem}",
            "  private_key: {filename: key.pem}",
            "validation_context:",
            "  trusted_ca: {filename: roots.pem}",
            "  match_typed_subject_alt_names:",
            "  - {san_type: URI, matcher: {prefix: \"spiffe://cluster.local/\"}}",
        ].map { String(repeating: " ", count: indent) + $0 }.joined(separator: "\n")
    }
}
