package import Foundation
import KubeAPI
package import KubeClient
package import MeshCA

/// Where the CA's key material lives: the Secret `cacerts` when the operator plugged one in, else
/// `istio-ca-secret`, which is made when it does not exist. A restart, and every replica, signs with the same root.
package struct AuthorityStore: Sendable {
    private let cluster: any KubeCluster
    private let namespace: String
    private let rootValidity: Duration

    package init(
        _ cluster: any KubeCluster, namespace: String, rootValidity: Duration = RootRotation().validity
    ) {
        self.rootValidity = rootValidity
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
        let authority = try CertificateAuthority.selfSigned(trustDomain: trustDomain, validity: self.rootValidity)
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

    /// Gives a self-signed root its successor when that is due. A plugged-in CA is its operator's.
    /// - Returns: whether the Secret has changed; another replica may have been faster.
    package func renewRootIfDue(_ rotation: RootRotation, now: Date = Date()) async throws -> Bool {
        guard try await self.cluster.find(.secrets, namespace: self.namespace, name: "cacerts") == nil,
            var secret = try await self.cluster.find(.secrets, namespace: self.namespace, name: "istio-ca-secret")
        else { return false }
        let current = try Self.selfSigned(secret)
        guard current.needsRenewal(gracePercent: rotation.gracePercent, now: now) else { return false }
        let next = try current.renewingRoot(validity: rotation.validity, now: now)
        secret.json.set(["data", "ca-cert.pem"], to: Self.base64(next.certificatePEM))
        secret.json.set(["data", "root-cert.pem"], to: Self.base64(next.rootsPEM))
        do {
            // With the revision that was read: of several replicas one succeeds.
            try await self.cluster.replace(.secrets, secret)
        } catch let error as StatusError where error.code == 409 {}
        return true
    }

    /// `root-cert.pem` is empty until the root is renewed for the first time.
    static func selfSigned(_ secret: KubeObject) throws -> CertificateAuthority {
        try CertificateAuthority(
            certificatePEM: try Self.text(secret, "ca-cert.pem"), privateKeyPEM: try Self.text(secret, "ca-key.pem"),
            rootsPEM: (try? Self.text(secret, "root-cert.pem")) ?? "")
    }

    /// Both spellings: Istio's, and that of cert-manager.
    static func plugged(_ secret: KubeObject) throws -> CertificateAuthority {
        if secret.json.at("data", "tls.crt") != nil {
            return try CertificateAuthority(
                certificatePEM: try Self.text(secret, "tls.crt"), privateKeyPEM: try Self.text(secret, "tls.key"),
                rootsPEM: try Self.text(secret, "ca.crt"))
        }
        var authority = try CertificateAuthority(
            certificatePEM: try Self.text(secret, "ca-cert.pem"), privateKeyPEM: try Self.text(secret, "ca-key.pem"),
            chainPEM: (try? Self.text(secret, "cert-chain.pem")) ?? "",
            rootsPEM: try Self.text(secret, "root-cert.pem"))
        authority.revocationsPEM = try? Self.text(secret, "ca-crl.pem")
        return authority
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
