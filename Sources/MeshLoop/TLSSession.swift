internal import CMeshLoop

/// TLS of one connection, through memory: ciphertext in, ciphertext out, never a socket.
///
/// One thread. After a ``feed(_:)`` read or handshake until "wants more": then, and only then, the session holds
/// nothing back that the socket would not report again.
public final class TLSSession {
    public enum Progress: Equatable { case done, wantsMore, failed }
    public enum ReadResult: Equatable {
        case plain(Int)
        case wantsMore
        /// The peer said close_notify.
        case closed
        case failed
    }

    private let raw: OpaquePointer
    // The context outlives the session's use of it (BoringSSL counts references to the inner object only).
    private let context: TLSContext

    /// Nil when memory is short.
    public init?(_ context: TLSContext) {
        guard let raw = cml_tls_new(context.raw) else { return nil }
        self.raw = raw
        self.context = context
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

    @inline(__always)
    public func read(into plain: UnsafeMutableRawPointer, _ capacity: Int) -> ReadResult {
        let result = cml_tls_read(self.raw, plain, capacity)
        if result > 0 { return .plain(result) }
        return result == 0 ? .wantsMore : result == -1 ? .closed : .failed
    }

    /// Seals all `count` bytes. Nil when the session failed.
    @inline(__always)
    public func write(_ plain: UnsafeRawPointer, _ count: Int, into out: UnsafeMutableRawBufferPointer) -> Int? {
        let result = cml_tls_write(self.raw, plain, count, out.baseAddress, out.count)
        return result < 0 ? nil : result
    }

    /// The close_notify record's length in `out`.
    public func closeNotify(into out: UnsafeMutableRawBufferPointer) -> Int {
        cml_tls_close(self.raw, out.baseAddress, out.count)
    }

    /// A fatal alert (RFC 8446, 6.2): 49 is access_denied.
    public func alert(_ code: UInt8, into out: UnsafeMutableRawBufferPointer) -> Int {
        cml_tls_alert(self.raw, code, out.baseAddress, out.count)
    }

    /// URI names of the verified peer certificate, in its order. Text that is not UTF-8 is left out.
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

    /// The serial number of a certificate which the verified peer sent and the list revokes; nil: there is none.
    public func revoked(by list: RevocationList) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { text in
            // SAFETY: both objects live through the call, which writes a zero-terminated text when it answers true.
            guard cml_tls_peer_revoked(self.raw, list.raw, text.baseAddress, text.count) else { return nil }
            return text.baseAddress.map { String(cString: $0) } ?? ""
        }
    }

    /// Whether both sides agreed on h2; false also when the peer spoke no ALPN.
    public var isHTTP2: Bool { cml_tls_is_h2(self.raw) }

    /// The key exchange of the finished handshake.
    public var group: String { String(cString: cml_tls_group(self.raw)) }

    /// Why the last call failed.
    public var errorText: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
            _ = cml_tls_error(self.raw, text.baseAddress, text.count)
            return text.baseAddress.map { String(cString: $0) } ?? ""
        }
    }
}
