internal import Crypto
internal import Foundation
internal import KubeAPI

/// Signs and reads service account tokens: ES256 JSON web tokens (RFC 7519) with Kubernetes' claims.
package final class TokenAuthority: Sendable {
    package static let issuer = "https://kubernetes.default.svc.cluster.local"
    static let defaultSeconds: Int64 = 3600
    static let secondsMin: Int64 = 600
    /// Clocks of one machine; the margin only covers rounding.
    private static let leewaySeconds: Int64 = 5

    private let key: P256.Signing.PrivateKey
    let keyID: String

    init(key: P256.Signing.PrivateKey) {
        self.key = key
        self.keyID = Self.base64URL(Data(SHA256.hash(data: key.publicKey.derRepresentation).prefix(16)))
    }

    struct Claims: Sendable {
        var audiences: [String]
        var namespace, account, accountUID: String
        var pod: (name: String, uid: String)?
        var node: (name: String, uid: String)?
        var secret: (name: String, uid: String)?
        var expires: Int64
        var id: String
    }

    func sign(_ claims: Claims, now: Int64) throws -> String {
        var kubernetes: JSONValue = [
            "namespace": .string(claims.namespace),
            "serviceaccount": ["name": .string(claims.account), "uid": .string(claims.accountUID)],
        ]
        for (member, reference) in [("pod", claims.pod), ("node", claims.node), ("secret", claims.secret)] {
            guard let reference else { continue }
            kubernetes[member] = ["name": .string(reference.name), "uid": .string(reference.uid)]
        }
        let body: JSONValue = [
            "iss": .string(Self.issuer), "sub": .string("system:serviceaccount:\(claims.namespace):\(claims.account)"),
            "aud": JSONValue(claims.audiences), "iat": .int(now), "nbf": .int(now), "exp": .int(claims.expires),
            "jti": .string(claims.id), "kubernetes.io": kubernetes,
        ]
        let header: JSONValue = ["alg": "ES256", "kid": .string(self.keyID), "typ": "JWT"]
        let text = Self.base64URL(Data(header.encoded)) + "." + Self.base64URL(Data(body.encoded))
        let signature = try self.key.signature(for: Data(text.utf8))
        return text + "." + Self.base64URL(signature.rawRepresentation)
    }

    /// The claims of a token this cluster signed and that is valid now; nil for anything else.
    func verify(_ token: String, now: Int64) -> Claims? {
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, let header = Self.json(parts[0]), header["alg"]?.string == "ES256",
            let body = Self.json(parts[1]), let raw = Self.data(parts[2]),
            let signature = try? P256.Signing.ECDSASignature(rawRepresentation: raw),
            self.key.publicKey.isValidSignature(signature, for: Data("\(parts[0]).\(parts[1])".utf8)),
            body["iss"]?.string == Self.issuer, let expires = body["exp"]?.int, expires > now,
            (body["nbf"]?.int ?? 0) <= now + Self.leewaySeconds, let kubernetes = body["kubernetes.io"],
            let namespace = kubernetes["namespace"]?.string,
            let account = kubernetes.at("serviceaccount", "name")?.string
        else { return nil }
        func reference(_ member: String) -> (name: String, uid: String)? {
            guard let name = kubernetes.at(member, "name")?.string else { return nil }
            return (name, kubernetes.at(member, "uid")?.string ?? "")
        }
        return Claims(
            audiences: body["aud"]?.array?.compactMap(\.string) ?? [], namespace: namespace, account: account,
            accountUID: kubernetes.at("serviceaccount", "uid")?.string ?? "", pod: reference("pod"),
            node: reference("node"), secret: reference("secret"), expires: expires, id: body["jti"]?.string ?? "")
    }

    /// The public key as a JSON web key set (RFC 7517).
    var keySet: JSONValue {
        let point = self.key.publicKey.rawRepresentation
        return [
            "keys": [
                [
                    "use": "sig", "kty": "EC", "kid": .string(self.keyID), "crv": "P-256", "alg": "ES256",
                    "x": .string(Self.base64URL(point.prefix(32))), "y": .string(Self.base64URL(point.suffix(32))),
                ]
            ]
        ]
    }

    static func base64URL(_ data: Data) -> String {
        data.base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    private static func data(_ text: Substring) -> Data? {
        var text = String(text).replacing("-", with: "+").replacing("_", with: "/")
        text += String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        return Data(base64Encoded: text)
    }

    private static func json(_ text: Substring) -> JSONValue? {
        guard let data = self.data(text) else { return nil }
        return try? JSONValue(parsing: [UInt8](data))
    }
}
