internal import CMeshLoop

/// Certificate, key and roots of one identity in one role, ready to make sessions. Built once per certificate version.
// @unchecked: sealed before it is shared; BoringSSL contexts may then be used from any thread.
public final class TLSContext: @unchecked Sendable {
    public enum Role: Sendable { case client, server }

    let raw: OpaquePointer
    public let role: Role

    /// - Parameters:
    ///   - chain: DER, leaf first, intermediates after.
    ///   - privateKey: PKCS#8 DER.
    ///   - roots: DER; each is an anchor as it stands.
    ///   - onlyPostQuantum: key exchange with X25519MLKEM768 only; else it is preferred.
    public init(
        role: Role, chain: [[UInt8]], privateKey: [UInt8], roots: [[UInt8]], onlyPostQuantum: Bool = false
    ) throws(TLSContextError) {
        guard let raw = cml_tls_context_new(role == .server, onlyPostQuantum) else {
            throw TLSContextError(part: "library", reason: Self.lastError())
        }
        self.raw = raw
        self.role = role
        // From here on deinit frees `raw`.
        for (index, certificate) in chain.enumerated() {
            let part = index == 0 ? "certificate" : "intermediate certificate \(index)"
            try Self.require(
                part,
                certificate.withUnsafeBytes {
                    cml_tls_context_add_certificate(raw, $0.baseAddress, $0.count)
                })
        }
        try Self.require(
            "private key",
            privateKey.withUnsafeBytes {
                cml_tls_context_set_key(raw, $0.baseAddress, $0.count)
            })
        for (index, root) in roots.enumerated() {
            try Self.require(
                "root certificate \(index + 1)",
                root.withUnsafeBytes {
                    cml_tls_context_add_root(raw, $0.baseAddress, $0.count)
                })
        }
        if chain.isEmpty { throw TLSContextError(part: "certificate", reason: "missing") }
        if roots.isEmpty { throw TLSContextError(part: "root certificates", reason: "missing") }
        try Self.require("certificate and private key", cml_tls_context_seal(raw))
    }

    deinit { cml_tls_context_free(self.raw) }

    private static func require(_ part: String, _ isGood: Bool) throws(TLSContextError) {
        if !isGood { throw TLSContextError(part: part, reason: Self.lastError()) }
    }

    private static func lastError() -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
            _ = cml_tls_context_error(text.baseAddress, text.count)
            return text.baseAddress.map { String(cString: $0) } ?? ""
        }
    }
}

/// Which part of a certificate bundle is not usable.
public struct TLSContextError: Error, Hashable, CustomStringConvertible {
    public let part, reason: String
    public var description: String { "the \(self.part) cannot be used: \(self.reason)" }
}
