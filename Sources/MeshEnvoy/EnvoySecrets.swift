internal import Foundation
internal import MeshProto

/// Our certificate and whom we trust, as Envoy takes them from the agent beside it.
package enum EnvoySecrets {
    /// - Parameters: DER; the key is PKCS#8.
    /// - Returns: encoded secrets, by the names that listeners and clusters use.
    package static func encoded(
        chain: [[UInt8]], privateKey: [UInt8], roots: [[UInt8]]
    ) -> [(name: String, bytes: [UInt8])] {
        let certificate = EnvoySecret.with {
            $0.name = EnvoyNames.certificate
            $0.tlsCertificate.certificateChain = .inline(chain.map { Self.pem("CERTIFICATE", $0) }.joined())
            $0.tlsCertificate.privateKey = .inline(Self.pem("PRIVATE KEY", privateKey))
        }
        let trust = EnvoySecret.with {
            $0.name = EnvoyNames.roots
            $0.validationContext.trustedCa = .inline(roots.map { Self.pem("CERTIFICATE", $0) }.joined())
        }
        return [certificate, trust].map { ($0.name, $0.bytes) }
    }

    /// RFC 7468: lines of 64 characters.
    private static func pem(_ kind: String, _ der: [UInt8]) -> String {
        let text = Data(der).base64EncodedString(options: [.lineLength64Characters, .endLineWithLineFeed])
        return "-----BEGIN \(kind)-----\n\(text)\n-----END \(kind)-----\n"
    }
}
