/// The name a workload proves with its certificate:
/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
///
/// The URI form is SPIFFE's; the `ns`/`sa` path is Istio's convention. An identity from another
/// mesh can therefore be good SPIFFE and still be refused here.
public struct WorkloadIdentity: Hashable, Sendable, CustomStringConvertible {
    public let trustDomain, namespace, serviceAccount: String

    public init(trustDomain: String, namespace: String, serviceAccount: String) {
        self.trustDomain = trustDomain
        self.namespace = namespace
        self.serviceAccount = serviceAccount
    }

    /// - Throws: ``InvalidIdentity`` with the URI as it arrived. Nothing is trimmed or repaired.
    public init(spiffe uri: String) throws(InvalidIdentity) {
        guard uri.hasPrefix(Self.scheme) else { throw .notSPIFFE(uri) }
        let parts = uri.dropFirst(Self.scheme.count)
            .split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 5, parts[1] == "ns", parts[3] == "sa", !parts.contains(""),
            uri.dropFirst(Self.scheme.count).utf8.allSatisfy(Self.isAllowed)
        else { throw .unexpectedPath(uri) }
        self.init(trustDomain: parts[0], namespace: parts[2], serviceAccount: parts[4])
    }

    static let scheme = "spiffe://"

    /// SPIFFE-ID, sections 2.1 and 2.2: letters, digits, dot, dash, underscore. More than form: Swift compares texts
    /// by meaning, so that the Kelvin sign equals K; within ASCII equal texts are equal bytes.
    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"),
            UInt8(ascii: "/"):
            true
        default: false
        }
    }

    /// The SPIFFE URI, as in the certificate's subject alternative name.
    public var description: String { Self.scheme + self.principal }

    /// The form that policies compare: the URI without `spiffe://`.
    public var principal: String { "\(self.trustDomain)/ns/\(self.namespace)/sa/\(self.serviceAccount)" }
}

/// Why a URI is no identity of this mesh.
public enum InvalidIdentity: Error, Hashable, CustomStringConvertible {
    case notSPIFFE(String)
    case unexpectedPath(String)

    public var description: String {
        switch self {
        case .notSPIFFE(let uri): "\"\(uri)\" is no SPIFFE identity: it does not start with spiffe://"
        case .unexpectedPath(let uri):
            "\"\(uri)\" is no workload identity: wanted spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
                + " of letters, digits, dots, dashes and underscores"
        }
    }
}
