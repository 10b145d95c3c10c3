internal import Crypto
internal import Foundation
internal import SwiftASN1
internal import X509

/// The secrets of one cluster, in one directory: certificate authority, server and admin certificates, the key that
/// signs service account tokens, and static tokens. Made on first use and kept.
public enum ClusterPKI {
    /// Everything the API server and the lab's own parts need to know.
    public struct Material: Sendable {
        /// PEM.
        public let caCertificate: String
        public let serverCertificate: String
        public let serverKey: String
        public let adminCertificate: String
        public let adminKey: String
        public let adminToken: String
        /// Name of a static identity → its token; see ``ClusterPKI/token(_:for:)``.
        let serviceAccountKey: P256.Signing.PrivateKey
        let directory: String
    }

    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    private static let validSeconds: TimeInterval = 10 * 365 * 86_400

    /// Loads the directory's material, and makes what is missing.
    ///
    /// - Parameters:
    ///   - directory: Created with mode 0700 when it is missing.
    ///   - names: Names and IPv4 addresses the server certificate must cover besides the standard ones. A certificate
    ///     that lacks one is made anew.
    ///   - serviceAddress: The ClusterIP of default/kubernetes.
    public static func load(
        directory: String, names: [String] = [], serviceAddress: String = "10.43.0.1"
    ) throws -> Material {
        do {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Failure(description: "cannot make the PKI directory \(directory): \(error)")
        }
        let folder = Folder(path: directory)
        let caKey = try folder.key("ca.key")
        let caName = try DistinguishedName { CommonName("martlet-lab-ca") }
        let ca = try folder.certificate("ca.crt") {
            try self.certificate(subject: caName, issuer: caName, key: caKey, signedBy: caKey, isAuthority: true)
        }
        let wanted =
            [
                "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
                "localhost", "127.0.0.1", serviceAddress,
            ] + names
        let serverKey = try folder.key("server.key")
        let server = try folder.certificate("server.crt", isGood: { self.covers($0, wanted) }) {
            try self.certificate(
                subject: try DistinguishedName { CommonName("kube-apiserver") }, issuer: caName, key: serverKey,
                signedBy: caKey, names: wanted, usage: .serverAuth)
        }
        let adminKey = try folder.key("admin.key")
        let admin = try folder.certificate("admin.crt") {
            try self.certificate(
                subject: try DistinguishedName {
                    OrganizationName(Caller.mastersGroup)
                    CommonName("system:admin")
                }, issuer: caName, key: adminKey, signedBy: caKey, usage: .clientAuth)
        }
        return Material(
            caCertificate: try ca.pem, serverCertificate: try server.pem, serverKey: serverKey.pemRepresentation,
            adminCertificate: try admin.pem, adminKey: adminKey.pemRepresentation,
            adminToken: try folder.token("admin"),
            serviceAccountKey: try folder.key("service-account.key"), directory: directory)
    }

    private static func certificate(
        subject: DistinguishedName, issuer: DistinguishedName, key: P256.Signing.PrivateKey,
        signedBy issuerKey: P256.Signing.PrivateKey, isAuthority: Bool = false, names: [String] = [],
        usage: ExtendedKeyUsage.Usage? = nil
    ) throws -> Certificate {
        let now = Date()
        let alternatives: [GeneralName] = names.map { name in
            guard let address = IPv4.parse(name) else { return .dnsName(name) }
            let bytes = (0..<4).map { UInt8(address >> (24 - 8 * $0) & 255) }
            return .ipAddress(ASN1OctetString(contentBytes: bytes[...]))
        }
        let extensions = try Certificate.Extensions {
            if isAuthority {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(digitalSignature: true, keyCertSign: true, cRLSign: true))
            } else {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
            }
            if let usage { try ExtendedKeyUsage([usage]) }
            if !alternatives.isEmpty { SubjectAlternativeNames(alternatives) }
            SubjectKeyIdentifier(hash: Certificate.PublicKey(key.publicKey))
            AuthorityKeyIdentifier(
                keyIdentifier: SubjectKeyIdentifier(hash: Certificate.PublicKey(issuerKey.publicKey)).keyIdentifier)
        }
        return try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: Certificate.PublicKey(key.publicKey),
            // An hour back, for clients whose clock is behind.
            notValidBefore: now - 3600, notValidAfter: now + self.validSeconds, issuer: issuer, subject: subject,
            signatureAlgorithm: .ecdsaWithSHA256, extensions: extensions,
            issuerPrivateKey: Certificate.PrivateKey(issuerKey))
    }

    private static func covers(_ certificate: Certificate, _ names: [String]) -> Bool {
        guard let present = try? certificate.extensions.subjectAlternativeNames else { return false }
        return names.allSatisfy { name in
            present.contains { entry in
                switch entry {
                case .dnsName(let text): return text == name
                case .ipAddress(let bytes):
                    return IPv4.parse(name).map { address in
                        Array(bytes.bytes) == (0..<4).map { UInt8(address >> (24 - 8 * $0) & 255) }
                    } ?? false
                default: return false
                }
            }
        }
    }

    /// A token for a part of the lab; made on first use.
    public enum Identity: Hashable, Sendable {
        /// `system:node:NAME` in `system:nodes`, what a node agent uses.
        case node(String)
        /// `system:kube-controller-manager`, for controllers outside this process.
        case controllers
    }

    public static func token(_ material: Material, for identity: Identity) throws -> String {
        switch identity {
        case .node(let name):
            guard MetadataRules.isSubdomain(name) else {
                throw Failure(description: "\"\(name)\" is no node name: \(MetadataRules.subdomainMessage)")
            }
            return try Folder(path: material.directory).token("node-\(name)")
        case .controllers: return try Folder(path: material.directory).token("controllers")
        }
    }

    /// All static tokens of the directory and whom they stand for.
    static func staticTokens(_ material: Material) throws -> [String: Caller] {
        var tokens: [String: Caller] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: material.directory)
        where name.hasSuffix(".token") {
            let token = try Folder(path: material.directory).token(String(name.dropLast(".token".count)))
            switch name {
            case "admin.token": tokens[token] = .admin
            case "controllers.token":
                tokens[token] = Caller(
                    name: "system:kube-controller-manager", groups: [Caller.mastersGroup, Caller.authenticatedGroup])
            default:
                let node = name.dropFirst("node-".count).dropLast(".token".count)
                tokens[token] = Caller(
                    name: "system:node:\(node)", groups: ["system:nodes", Caller.authenticatedGroup])
            }
        }
        return tokens
    }

    /// A kubeconfig for the administrator.
    ///
    /// - Parameters:
    ///   - server: `https://127.0.0.1:6550`.
    ///   - name: Of cluster, user and context.
    public static func kubeconfig(_ material: Material, server: String, name: String) -> String {
        self.kubeconfig(
            material, server: server, name: name,
            credentials: """
                client-certificate-data: \(Data(material.adminCertificate.utf8).base64EncodedString())
                    client-key-data: \(Data(material.adminKey.utf8).base64EncodedString())
                """)
    }

    /// A kubeconfig for any bearer token.
    public static func kubeconfig(_ material: Material, server: String, name: String, token: String) -> String {
        self.kubeconfig(material, server: server, name: name, credentials: "token: \(token)")
    }

    private static func kubeconfig(_ material: Material, server: String, name: String, credentials: String) -> String {
        """
        apiVersion: v1
        kind: Config
        clusters:
        - name: \(name)
          cluster:
            server: \(server)
            certificate-authority-data: \(Data(material.caCertificate.utf8).base64EncodedString())
        users:
        - name: admin@\(name)
          user:
            \(credentials)
        contexts:
        - name: \(name)
          context:
            cluster: \(name)
            user: admin@\(name)
        current-context: \(name)

        """
    }

    /// Files of the directory, each made once, readable by the owner only.
    private struct Folder {
        let path: String

        private func read(_ name: String) -> String? {
            try? String(contentsOfFile: "\(self.path)/\(name)", encoding: .utf8)
        }

        private func write(_ text: String, _ name: String) throws {
            let file = "\(self.path)/\(name)"
            guard
                FileManager.default.createFile(
                    atPath: file, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
            else { throw Failure(description: "cannot write \(file); is the directory writable?") }
        }

        func key(_ name: String) throws -> P256.Signing.PrivateKey {
            if let text = self.read(name) {
                do {
                    return try P256.Signing.PrivateKey(pemRepresentation: text)
                } catch {
                    throw Failure(
                        description: "\(self.path)/\(name) is no P-256 key: \(error); remove it to make a new one")
                }
            }
            let key = P256.Signing.PrivateKey()
            try self.write(key.pemRepresentation, name)
            return key
        }

        func certificate(
            _ name: String, isGood: (Certificate) -> Bool = { _ in true }, make: () throws -> Certificate
        ) throws -> Certificate {
            if let text = self.read(name), let present = try? Certificate(pemEncoded: text), isGood(present) {
                return present
            }
            let certificate = try make()
            try self.write(try certificate.pem, name)
            return certificate
        }

        func token(_ name: String) throws -> String {
            if let token = self.read("\(name).token"), !token.isEmpty { return token }
            let token = SymmetricKey(size: .bits256).withUnsafeBytes { bytes in bytes.map(Self.hex).joined() }
            try self.write(token, "\(name).token")
            return token
        }

        private static func hex(_ byte: UInt8) -> String {
            let text = String(byte, radix: 16)
            return byte < 16 ? "0" + text : text
        }
    }
}

extension Certificate {
    fileprivate var pem: String { get throws { try self.serializeAsPEM().pemString } }
}
