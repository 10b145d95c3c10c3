/// A certificate for one workload identity, with the key that was made for it and the roots to trust.
public struct SignedCertificate: Hashable, Sendable {
    /// DER, the leaf first, then the intermediates.
    public let chain: [[UInt8]]
    /// PKCS#8 DER, P-256.
    public let privateKey: [UInt8]
    /// DER.
    public let roots: [[UInt8]]
    /// Seconds since 1970, of the leaf.
    public let notBefore, notAfter: Int64

    public init(chain: [[UInt8]], privateKey: [UInt8], roots: [[UInt8]], notBefore: Int64, notAfter: Int64) {
        self.chain = chain
        self.privateKey = privateKey
        self.roots = roots
        self.notBefore = notBefore
        self.notAfter = notAfter
    }
}

/// Why there is no certificate.
public enum CertificateError: Error, Hashable, CustomStringConvertible {
    /// The CA answered with a gRPC status.
    case refused(identity: String, code: String, message: String)
    case unreachable(server: String, reason: String)
    /// The CA's answer is not what was asked for.
    case badAnswer(identity: String, reason: String)
    case local(reason: String)

    public var description: String {
        switch self {
        case .refused(let identity, let code, let message):
            "the CA refused a certificate for \(identity): \(code): \(message); "
                + "does a live pod with this service account run on this node? The CA's log has the reason"
        case .unreachable(let server, let reason):
            "cannot reach the CA at \(server): \(reason); is the control plane running, and its root certificate ours?"
        case .badAnswer(let identity, let reason): "the CA's answer for \(identity) is unusable: \(reason)"
        case .local(let reason): "cannot ask for a certificate: \(reason)"
        }
    }
}
