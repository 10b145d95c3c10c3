/// TLS of one connection, through memory: ciphertext in, ciphertext out, never a socket.
///
/// One thread. After a ``feed(_:)`` read or handshake until "wants more": then, and only then, the session holds
/// nothing back that the socket would not report again. ``TLSSession`` is the one of the product; simulations bring
/// one that keeps to the same rules without randomness.
public protocol SecureSession: AnyObject {
    /// Bytes the session may read from now on; borrowed until it wants more.
    func feed(_ bytes: UnsafeRawBufferPointer)
    /// - Returns: how far it came, and how many bytes of `out` are to be sent in any case.
    func handshake(into out: UnsafeMutableRawBufferPointer) -> (TLSSession.Progress, Int)
    func read(into plain: UnsafeMutableRawPointer, _ capacity: Int) -> TLSSession.ReadResult
    /// Seals all `count` bytes. Nil when the session failed.
    func write(_ plain: UnsafeRawPointer, _ count: Int, into out: UnsafeMutableRawBufferPointer) -> Int?
    /// The close_notify record's length in `out`.
    func closeNotify(into out: UnsafeMutableRawBufferPointer) -> Int
    /// A fatal alert (RFC 8446, 6.2): 49 is access_denied.
    func alert(_ code: UInt8, into out: UnsafeMutableRawBufferPointer) -> Int
    /// URI names of the verified peer certificate, in its order.
    func peerURIs() -> [String]
    /// The serial number of a certificate which the verified peer sent and the list revokes; nil: there is none.
    func revoked(by list: RevocationList) -> String?
    /// Why the last call failed.
    var errorText: String { get }
}

extension SecureSession {
    /// Of sessions without certificates none is revoked.
    public func revoked(by list: RevocationList) -> String? { nil }
}

extension TLSSession: SecureSession {}
