internal import CMeshLoop

/// Which certificates their authorities have taken back: the certificate revocation lists (RFC 5280, 5) of one file.
///
/// A list speaks only for the authority that signed it; that is checked with the chain of each certificate it is
/// applied to, because only there the authority is known. A list that nobody of a chain signed says nothing about it.
/// Whether a list is due to be replaced does not matter: what was revoked stays revoked.
// @unchecked: read-only once made; BoringSSL takes a lock of its own where it sorts.
public final class RevocationList: @unchecked Sendable {
    /// Lists in one file: one for each authority of a mesh, with room for those of federated ones.
    public static let listsMax = 256

    let raw: OpaquePointer

    /// - Parameter bytes: PEM with any number of blocks, those of another kind are passed over; or one DER list. Nothing
    ///   at all revokes nothing.
    public init(_ bytes: [UInt8]) throws(RevocationListError) {
        let (raw, why) = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
            // SAFETY: the buffers are borrowed for the call, which writes a zero-terminated text when it answers null.
            let raw = bytes.withUnsafeBytes {
                cml_revocations_parse($0.baseAddress, $0.count, Self.listsMax, text.baseAddress, text.count)
            }
            return (raw, raw == nil ? text.baseAddress.map { String(cString: $0) } ?? "" : "")
        }
        guard let raw else { throw RevocationListError(description: why) }
        self.raw = raw
    }

    deinit { cml_revocations_free(self.raw) }

    public var lists: Int { cml_revocations_lists(self.raw) }
    /// Revoked certificates, of all lists.
    public var entries: Int { cml_revocations_entries(self.raw) }
    /// Whether one of them says that a newer one should exist by now.
    public func isOutdated(nowSeconds: Int64) -> Bool { cml_revocations_outdated(self.raw, nowSeconds) }
}

/// Why a file of revocation lists cannot be used: which of its lists, counted from 1, and what is wrong.
public struct RevocationListError: Error, Hashable, CustomStringConvertible {
    public let description: String
}
