internal import CMeshLoop

/// What a peer proved itself with: the certificates it sent, and the roots they were verified with. About a hundred bytes
/// for a connection; the certificates themselves are shared by all connections with that peer.
public final class PeerCertificates {
    private let raw: OpaquePointer

    /// Takes it over.
    init(adopting raw: OpaquePointer) { self.raw = raw }

    deinit { cml_peer_free(self.raw) }

    /// The serial number of a certificate that the list revokes; nil: there is none.
    public func revoked(by list: RevocationList) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { text in
            // SAFETY: both objects live through the call, which writes a zero-terminated text when it answers true.
            guard cml_peer_revoked(self.raw, list.raw, text.baseAddress, text.count) else { return nil }
            return text.baseAddress.map { String(cString: $0) } ?? ""
        }
    }
}
