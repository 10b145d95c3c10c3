/// TLS of one connection, through memory: ciphertext in, ciphertext out, never a socket.
///
/// One thread. First the handshake: after a ``feed(_:)`` until it wants more, is done or has failed. Then whatever is
/// to be known about the peer, then ``settle()``; from there records are opened and sealed where they lie.
/// ``TLSSession`` is the one of the product; simulations bring one that keeps to the same rules without randomness.
public protocol SecureSession: AnyObject {
    /// Bytes the handshake may read; borrowed until it answers, or until the next feed.
    func feed(_ bytes: UnsafeRawBufferPointer)
    /// - Returns: how far it came, and how many bytes of `out` are to be sent in any case.
    func handshake(into out: UnsafeMutableRawBufferPointer) -> (TLSSession.Progress, Int)
    /// Bytes at the end of the last feed that came behind the handshake: the first records. Known once settled.
    var unusedBytes: Int { get }
    /// URI names of the verified peer certificate, in its order; none after ``settle()``.
    func peerURIs() -> [String]
    /// What the verified peer proved itself with, to be kept where it may be asked again; nil after ``settle()``.
    var peerCertificates: PeerCertificates? { get }
    /// Keeps the keys and forgets the handshake. False when that cannot be.
    func settle() -> Bool

    /// Opens the first record of `bytes` in place: its text begins ``TLSRecord/headerBytes`` behind it.
    func open(_ bytes: UnsafeMutableRawBufferPointer) -> TLSRecord.Opened
    /// Seals the `count` bytes that begin ``TLSRecord/headerBytes`` behind `record`, in place.
    /// The record is then `count` and ``TLSRecord/overheadBytes`` long.
    /// - Returns: false when the session failed.
    func seal(_ record: UnsafeMutableRawPointer, _ count: Int) -> Bool
    /// A record that must go before the next sealed one, written to `out`; nearly always none.
    func begin(into out: UnsafeMutableRawBufferPointer) -> Int

    /// The close_notify record's length in `out`.
    func closeNotify(into out: UnsafeMutableRawBufferPointer) -> Int
    /// A fatal alert (RFC 8446, 6.2): 49 is access_denied.
    func alert(_ code: UInt8, into out: UnsafeMutableRawBufferPointer) -> Int
    /// Why the last call failed.
    var errorText: String { get }
}

extension SecureSession {
    /// There are sessions without certificates.
    public var peerCertificates: PeerCertificates? { nil }
}

extension TLSSession: SecureSession {}

/// Measures of a TLS 1.3 record (RFC 8446, 5).
public enum TLSRecord {
    public enum Opened: Equatable {
        /// `bytes` is the whole record's length, `text` that of its data.
        case data(bytes: Int, text: Int)
        /// A record without data.
        case nothing(bytes: Int)
        /// The record is not complete.
        case wantsMore
        /// The peer said close_notify.
        case closed
        case failed
    }

    public static let headerBytes = 5
    /// Header, content type and tag.
    public static let overheadBytes = 22
    /// Text at most.
    public static let textBytesMax = 16 << 10
    /// A record at most, as a peer may send it.
    public static let bytesMax = Self.headerBytes + Self.textBytesMax + 256
}
