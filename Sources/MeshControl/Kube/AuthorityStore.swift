import Foundation
import KubeAPI
package import KubeClient
package import MeshCA

/// Where the CA's key material lives: the Secret `cacerts` when the operator plugged one in, else
/// `istio-ca-secret`, which is made when it does not exist. A restart, and every replica, signs with the same root.
package struct AuthorityStore: Sendable {
    private let cluster: any KubeCluster
    private let namespace: String

    package init(_ cluster: any KubeCluster, namespace: String) {
        self.cluster = cluster
        self.namespace = namespace
    }

    package func load(trustDomain: String) async throws -> CertificateAuthority {
        if let secret = try await self.cluster.find(.secrets, namespace: self.namespace, name: "cacerts") {
            return try Self.plugged(secret)
        }
        if let own = try await self.cluster.find(.secrets, namespace: self.namespace, name: "istio-ca-secret") {
            return try Self.selfSigned(own)
        }
        let authority = try CertificateAuthority.selfSigned(trustDomain: trustDomain)
        var secret = KubeObject(.secrets, namespace: self.namespace, name: "istio-ca-secret")
        secret.json["type"] = "istio.io/ca-root"
        secret.json["data"] = [
            "ca-cert.pem": Self.base64(authority.certificatePEM), "ca-key.pem": Self.base64(authority.privateKeyPEM),
            "cert-chain.pem": "", "key.pem": "", "root-cert.pem": "",
        ]
        do {
            try await self.cluster.create(.secrets, secret)
            return authority
        } catch let error as StatusError where error.isAlreadyExists {
            // Another replica was faster: its root is the mesh's.
            return try Self.selfSigned(
                try await self.cluster.get(.secrets, namespace: self.namespace, name: "istio-ca-secret"))
        }
    }

    static func selfSigned(_ secret: KubeObject) throws -> CertificateAuthority {
        try CertificateAuthority(
            certificatePEM: try Self.text(secret, "ca-cert.pem"), privateKeyPEM: try Self.text(secret, "ca-key.pem"))
    }

    /// Both spellings: Istio's, and that of cert-manager.
    static func plugged(_ secret: KubeObject) throws -> CertificateAuthority {
        if secret.json.at("data", "tls.crt") != nil {
            return try CertificateAuthority(
                certificatePEM: try Self.text(secret, "tls.crt"), privateKeyPEM: try Self.text(secret, "tls.key"),
                rootsPEM: try Self.text(secret, "ca.crt"))
        }
        return try CertificateAuthority(
            certificatePEM: try Self.text(secret, "ca-cert.pem"), privateKeyPEM: try Self.text(secret, "ca-key.pem"),
            chainPEM: (try? Self.text(secret, "cert-chain.pem")) ?? "",
            rootsPEM: try Self.text(secret, "root-cert.pem"))
    }

    private static func text(_ secret: KubeObject, _ key: String) throws -> String {
        guard let value = secret.json.at("data", key)?.string, !value.isEmpty,
            let data = Data(base64Encoded: value)
        else {
            throw AuthorityError.unreadable(
                "Secret \(secret.key) has no usable \(key); restore it, or delete the Secret to get a new root")
        }
        return String(decoding: data, as: UTF8.self)
    }

    private static func base64(_ text: String) -> JSONValue {
        .string(Data(text.utf8).base64EncodedString())
    }
}
