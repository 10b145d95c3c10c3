import MeshIdentity
import MeshTestSupport
import MeshTunnel
import Testing

/// Our HBONE port as other people's tools see it: OpenSSL's client for TLS, nghttp2's for HTTP/2.
@Suite("The HBONE port, seen from outside", .timeLimit(.minutes(3)))
struct OpenSSLViewTests {
    private static let openssl = PeerProgram.find("openssl")
    private static let nghttp = PeerProgram.find("nghttp")
    private static let certificate = ["-cert", "chain.pem", "-cert_chain", "chain.pem", "-key", "key.pem"]

    private let ca: TestCA
    private let pods: TwoPods
    private let echo: BlockingServer

    init() throws {
        self.ca = try TestCA()
        self.echo = try BlockingServer.echo()
        self.pods = try TwoPods(target: self.echo.port, ca: self.ca)
    }

    /// What `openssl s_client` prints until the server closes, or at once when it does not.
    private func connect(
        _ options: [String], as identity: WorkloadIdentity = TwoPods.clientIdentity, of authority: TestCA? = nil,
        waitsForServer: Bool = false, at port: UInt16? = nil
    ) async throws -> String {
        var issued = try (authority ?? self.ca).issue(identity)
        issued.roots = [try self.ca.rootDER]
        return try await PeerProgram.run(
            Self.openssl ?? "openssl",
            [
                "s_client", "-connect", "127.0.0.1:\(port ?? self.pods.serverPorts.inboundTunnel)", "-CAfile",
                "roots.pem",
            ]
                + (waitsForServer ? ["-ign_eof"] : []) + options, in: PeerFolder(issued))
    }

    @Test("TLS 1.3, HTTP/2 by ALPN, a chain that verifies, and a client certificate is asked for")
    func handshake() async throws {
        let output = try await self.connect(Self.certificate + ["-alpn", "h2", "-verify_return_error"])
        #expect(output.contains("New, TLSv1.3, Cipher is TLS_AES_"), "\(output)")
        #expect(output.contains("ALPN protocol: h2"), "\(output)")
        #expect(output.contains("Verify return code: 0 (ok)"), "\(output)")
        #expect(output.contains("Requested Signature Algorithms"), "no client certificate was asked for: \(output)")
        _ = await self.pods.stop()
    }

    @Test("the leaf names one SPIFFE identity and nothing else")
    func leaf() async throws {
        let output = try await self.connect(Self.certificate + ["-alpn", "h2"])
        let folder = try PeerFolder(self.ca.issue(TwoPods.clientIdentity))
        try folder.write("seen.pem", output)
        let names = try await PeerProgram.run(
            Self.openssl ?? "openssl", ["x509", "-in", "seen.pem", "-noout", "-ext", "subjectAltName"], in: folder)
        #expect(names.contains("URI:\(TwoPods.serverIdentity)"), "\(names)")
        #expect(!names.contains("DNS:"), "\(names)")
        _ = await self.pods.stop()
    }

    @Test("an older TLS is refused", arguments: ["-tls1_2", "-tls1_1"])
    func olderVersion(option: String) async throws {
        let output = try await self.connect(Self.certificate + [option, "-cipher", "ALL:@SECLEVEL=0"])
        #expect(output.contains("alert protocol version") || output.contains("no protocols available"), "\(output)")
        #expect(output.contains("Cipher is (NONE)"), "\(output)")
        _ = await self.pods.stop()
    }

    @Test("every group of today is accepted", arguments: ["X25519", "P-256"])
    func group(name: String) async throws {
        let output = try await self.connect(Self.certificate + ["-groups", name, "-alpn", "h2"])
        #expect(output.contains("Verify return code: 0 (ok)"), "\(output)")
        _ = await self.pods.stop()
    }

    @Test("COMPLIANCE_POLICY=pqc: a client that agrees on keys as before is refused; our own is served")
    func onlyPostQuantum() async throws {
        func strict(_ configuration: inout TunnelConfiguration) { configuration.onlyPostQuantum = true }
        let pods = try TwoPods(target: self.echo.port, ca: self.ca, configure: strict, configureServer: strict)
        let socket = try pods.connect()
        let back = try await offThread {
            try socket.send([7])
            return try socket.receive(exactly: 1)
        }
        #expect(back == [7])
        for group in ["X25519", "P-256"] {
            let output = try await self.connect(
                Self.certificate + ["-groups", group, "-alpn", "h2"], at: pods.serverPorts.inboundTunnel)
            #expect(output.contains("alert handshake failure") && output.contains("Cipher is (NONE)"), "\(output)")
        }
        _ = await pods.stop()
        _ = await self.pods.stop()
    }

    @Test("a client that speaks only HTTP/1.1 is refused")
    func otherProtocol() async throws {
        let output = try await self.connect(
            Self.certificate + ["-alpn", "http/1.1"], waitsForServer: true)
        #expect(output.contains("alert no application protocol"), "\(output)")
        _ = await self.pods.stop()
    }

    @Test("a client without a certificate is refused")
    func noCertificate() async throws {
        let output = try await self.connect(["-alpn", "h2"], waitsForServer: true)
        #expect(output.contains("alert certificate required"), "\(output)")
        let refusal = try await self.pods.serverObserver.firstRefused()
        #expect(refusal.flag == .tlsFailure)
        _ = await self.pods.stop()
    }

    @Test("a certificate of another authority is refused")
    func otherAuthority() async throws {
        let output = try await self.connect(
            Self.certificate + ["-alpn", "h2"], of: TestCA(name: "stranger"), waitsForServer: true)
        #expect(output.contains("alert unknown ca"), "\(output)")
        let refusal = try await self.pods.serverObserver.firstRefused()
        #expect(refusal.flag == .tlsFailure)
        _ = await self.pods.stop()
    }

    @Test("an identity of another trust domain is refused, although our authority signed it")
    func otherTrustDomain() async throws {
        let foreign = WorkloadIdentity(trustDomain: "other.example", namespace: "default", serviceAccount: "client")
        let output = try await self.connect(Self.certificate + ["-alpn", "h2"], as: foreign, waitsForServer: true)
        #expect(output.contains("alert access denied"), "\(output)")
        let refusal = try await self.pods.serverObserver.firstRefused()
        #expect(refusal.flag == .identityError)
        _ = await self.pods.stop()
    }

    @Test(
        "nghttp2 reads our SETTINGS, and its GET is answered with 400",
        .enabled(if: nghttp != nil, "SKIPPED: NO nghttp. Install nghttp2-client."))
    func nghttp2() async throws {
        let output = try await PeerProgram.run(
            Self.nghttp ?? "nghttp",
            [
                "-v", "--no-dep", "--cert=chain.pem", "--key=key.pem",
                "https://127.0.0.1:\(self.pods.serverPorts.inboundTunnel)/",
            ], in: PeerFolder(self.ca.issue(TwoPods.clientIdentity)))
        #expect(output.contains("The negotiated protocol: h2"), "\(output)")
        #expect(output.contains("[SETTINGS_MAX_CONCURRENT_STREAMS(0x03):200]"), "\(output)")
        #expect(output.contains("[SETTINGS_INITIAL_WINDOW_SIZE(0x04):4194304]"), "\(output)")
        #expect(output.contains(":status: 400"), "\(output)")
        #expect(!output.contains("invalid frame"), "\(output)")
        _ = await self.pods.stop()
    }
}
