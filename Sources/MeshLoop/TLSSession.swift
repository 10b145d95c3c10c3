internal import CMeshLoop

/// TLS 1.3 of one connection: BoringSSL's handshake, then a record layer of our own with its keys (`CMeshLoop`).
public final class TLSSession {
    public enum Progress: Equatable { case done, wantsMore, failed }

    /// Records sealed with one key; then the next is derived. AES-GCM is good for 24 million full ones
    /// (RFC 8446, 5.5).
    public static let recordsPerKey: UInt64 = 1 << 23

    private let raw: OpaquePointer
    // The context outlives the session's use of it (BoringSSL counts references to the inner object only).
    private var context: TLSContext?
    private let recordsPerKey: UInt64

    /// Nil when memory is short.
    public init?(_ context: TLSContext, recordsPerKey: UInt64 = TLSSession.recordsPerKey) {
        guard let raw = cml_tls_new(context.raw) else { return nil }
        self.raw = raw
        self.context = context
        self.recordsPerKey = recordsPerKey
    }

    /// A session that is settled already, without a handshake, for tests: what one seals the other opens when the `out` of
    /// one is the `in` of the other. Nil when memory is short.
    package init?(
        secrets: (in: [UInt8], out: [UInt8]), isServer: Bool, recordsPerKey: UInt64 = TLSSession.recordsPerKey
    ) {
        precondition(secrets.in.count == 32 && secrets.out.count == 32, "SHA-256 has 32 bytes")
        guard let raw = cml_tls_with_secrets(secrets.in, secrets.out, secrets.in.count, isServer, recordsPerKey) else {
            return nil
        }
        self.raw = raw
        self.context = nil
        self.recordsPerKey = recordsPerKey
    }

    deinit { cml_tls_free(self.raw) }

    /// Bytes the session may read from now on; borrowed until it wants more.
    @inline(__always)
    public func feed(_ bytes: UnsafeRawBufferPointer) { cml_tls_feed(self.raw, bytes.baseAddress, bytes.count) }

    /// - Returns: how far it came, and how many bytes of `out` are to be sent in any case.
    public func handshake(into out: UnsafeMutableRawBufferPointer) -> (Progress, Int) {
        var written = 0
        switch cml_tls_handshake(self.raw, out.baseAddress, out.count, &written) {
        case 1: return (.done, written)
        case 0: return (.wantsMore, written)
        default: return (.failed, written)
        }
    }

    public var unusedBytes: Int { cml_tls_unused(self.raw) }

    public func settle() -> Bool {
        guard cml_tls_settle(self.raw, self.recordsPerKey) else { return false }
        self.context = nil
        return true
    }

    @inline(__always)
    public func open(_ bytes: UnsafeMutableRawBufferPointer) -> TLSRecord.Opened {
        var (length, text) = (0, 0)
        switch cml_tls_open(self.raw, bytes.baseAddress, bytes.count, &length, &text) {
        case 1: return .data(bytes: length, text: text)
        case 2: return .nothing(bytes: length)
        case 0: return .wantsMore
        case -1: return .closed
        default: return .failed
        }
    }

    @inline(__always)
    public func seal(_ record: UnsafeMutableRawPointer, _ count: Int) -> Bool {
        cml_tls_seal(self.raw, record, count) == count + TLSRecord.overheadBytes
    }

    /// Seals as content of another type (RFC 8446, 5.1): for tests, which play a peer that misbehaves.
    package func seal(_ record: UnsafeMutableRawPointer, _ count: Int, type: UInt8) -> Bool {
        cml_tls_seal_as(self.raw, record, count, type) == count + TLSRecord.overheadBytes
    }

    @inline(__always)
    public func begin(into out: UnsafeMutableRawBufferPointer) -> Int {
        cml_tls_begin(self.raw, out.baseAddress, out.count)
    }

    /// The close_notify record's length in `out`.
    public func closeNotify(into out: UnsafeMutableRawBufferPointer) -> Int {
        cml_tls_close(self.raw, out.baseAddress, out.count)
    }

    /// A fatal alert (RFC 8446, 6.2): 49 is access_denied.
    public func alert(_ code: UInt8, into out: UnsafeMutableRawBufferPointer) -> Int {
        cml_tls_alert(self.raw, code, out.baseAddress, out.count)
    }

    /// URI names of the verified peer certificate, in its order; none once settled. Text that is not UTF-8 is left out.
    public func peerURIs() -> [String] {
        withUnsafeTemporaryAllocation(byteCount: 34 << 10, alignment: 1) { buffer in
            let count = cml_tls_peer_uris(self.raw, buffer.baseAddress, buffer.count)
            var uris: [String] = []
            var at = 0
            while at + 2 <= count {
                let length = Int(buffer[at]) << 8 | Int(buffer[at + 1])
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[(at + 2)..<(at + 2 + length)])
                if let uri = String(validating: bytes, as: UTF8.self) { uris.append(uri) }
                at += 2 + length
            }
            return uris
        }
    }

    /// What the verified peer proved itself with; nil once settled.
    public var peerCertificates: PeerCertificates? { cml_tls_peer(self.raw).map { PeerCertificates(adopting: $0) } }

    /// Whether both sides agreed on h2; false also when the peer spoke no ALPN, and once settled.
    public var isHTTP2: Bool { cml_tls_is_h2(self.raw) }

    /// The key exchange of the finished handshake; empty once settled.
    public var group: String { String(cString: cml_tls_group(self.raw)) }

    /// Why the last call failed.
    public var errorText: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
            _ = cml_tls_error(self.raw, text.baseAddress, text.count)
            return text.baseAddress.map { String(cString: $0) } ?? ""
        }
    }
}
