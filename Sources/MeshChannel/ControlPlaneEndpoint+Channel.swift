internal import Foundation
package import GRPCCore
package import GRPCNIOTransportHTTP2
internal import NIOCore
internal import NIOSSL

extension ControlPlaneEndpoint {
    package typealias Transport = HTTP2ClientTransport.Posix

    /// A root file holds a handful of certificates, a token about a kilobyte.
    static let fileBytesMax = 4 << 20

    /// Opens a connection of its own, runs `body` with it, and closes it.
    ///
    /// - Parameters:
    ///   - serverName: the name the certificate has to carry, one of ``serverNames``.
    ///   - keptRoots: called with the reason when the root file cannot be used, and the roots it had before are.
    package func withChannel<Result: Sendable>(
        serverName: String, keptRoots: (String) -> Void = { _ in },
        _ body: @Sendable (GRPCClient<Transport>) async throws -> Result
    ) async throws -> Result {
        let transport = try Transport(
            target: self.target, transportSecurity: try self.security(keptRoots),
            config: self.transportConfig(serverName))
        return try await withGRPCClient(transport: transport) { client in try await body(client) }
    }

    /// The metadata of one call. Reads the token now.
    package func metadata() throws(EndpointError) -> Metadata {
        var metadata = Metadata()
        for (name, value) in self.headers { metadata.addString(value, forKey: name) }
        if !self.clusterID.isEmpty { metadata.addString(self.clusterID, forKey: "clusterid") }
        if case .file(let path) = self.token {
            let bytes: [UInt8]
            switch Self.read(path) {
            case .success(let content): bytes = content
            case .failure(let failure): throw .unreadableToken(path: path, reason: failure.reason)
            }
            let text = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
            if text.isEmpty { throw .emptyToken(path: path) }
            metadata.addString("Bearer \(text)", forKey: "authorization")
        }
        return metadata
    }

    private var target: any ResolvableTarget {
        if self.isIPv6 { return .ipv6(address: self.host, port: self.port) }
        if self.isIPv4 { return .ipv4(address: self.host, port: self.port) }
        return .dns(host: self.host, port: self.port)
    }

    private var isIPv6: Bool { self.host.contains(":") }
    private var isIPv4: Bool {
        let parts = self.host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
    }

    private func security(_ keptRoots: (String) -> Void) throws -> Transport.TransportSecurity {
        let roots: TLSConfig.TrustRootsSource
        switch self.roots {
        case .plaintext: return .plaintext
        case .system: roots = .systemDefault
        case .pem(let text): roots = .certificates([.bytes(Array(text.utf8), format: .pem)])
        case .file(let path):
            let content = Self.read(path)
            if let (pem, trouble) = self.rootFile.roots(content) {
                if let trouble { keptRoots("\(path): \(trouble)") }
                roots = .certificates([.bytes(pem, format: .pem)])
            } else if case .failure(let failure) = content {
                throw EndpointError.unreadableRoots(path: path, reason: failure.reason)
            } else {
                throw EndpointError.unreadableRoots(path: path, reason: "no certificates in it that can be read")
            }
        }
        return .tls { $0.trustRoots = roots }
    }

    private func transportConfig(_ serverName: String) -> Transport.Config {
        .defaults { config in
            // An IP address is no server name (RFC 6066); the certificate is then compared with the peer's address.
            let isAddress = serverName == self.host && (self.isIPv4 || self.isIPv6)
            config.http2.authority = isAddress ? nil : serverName
            config.connection.keepalive = .init(
                time: .seconds(30), timeout: .seconds(10), allowWithoutCalls: true)
            config.connection.maxIdleTime = nil
            // Called when the pipeline is complete and nothing has arrived yet.
            let isPlaintext = self.roots == .plaintext
            config.channelDebuggingCallbacks.onCreateTCPConnection = { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(
                        FrameAlignment(),
                        position: isPlaintext ? .first : .after(pipeline.handler(type: NIOSSLClientHandler.self)))
                }
            }
            // The caller decides when to try again; a long wait inside would only hide the failure.
            config.backoff = .init(initial: .milliseconds(100), max: .seconds(5), multiplier: 2, jitter: 0.2)
        }
    }

    private typealias ReadFailure = RootFile.ReadFailure

    private static func read(_ path: String) -> Swift.Result<[UInt8], RootFile.ReadFailure> {
        do {
            let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            defer { try? handle.close() }
            let data = try handle.read(upToCount: Self.fileBytesMax + 1) ?? Data()
            guard data.count <= Self.fileBytesMax else {
                return .failure(ReadFailure(reason: "more than \(Self.fileBytesMax) bytes"))
            }
            return .success(Array(data))
        } catch {
            return .failure(ReadFailure(reason: error.localizedDescription))
        }
    }
}
