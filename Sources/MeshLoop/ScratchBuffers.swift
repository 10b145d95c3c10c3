public import Glibc

/// The large buffers of one loop. A connection borrows them for the length of one call and owns none at rest.
///
/// SAFETY: one thread, and users never nest: whoever fills a buffer empties it (delivers, seals, or copies the
/// remainder) before it returns to the loop.
public final class ScratchBuffers {
    /// One read from a socket: a full default receive window of a fast local connection.
    public static let readBytes = 256 << 10
    /// Plaintext of one turn: the frames that go out together. 16 records of 16 KiB.
    public static let writeBytes = 256 << 10
    /// Scatter list entries per delivery to one socket; IOV_MAX is 1024.
    public static let vectorsMax = 1000
    /// Plaintext of one TLS record at most (RFC 8446, 5.1).
    public static let recordBytes = 16 << 10
    /// Frames filled by one read.
    public static let readVectorsMax = 64

    /// Ciphertext, or plain bytes, as read.
    public let received: UnsafeMutableRawBufferPointer
    /// Opened records. Longer than `received` by what a session may hold back of earlier reads.
    public let opened: UnsafeMutableRawBufferPointer
    /// Frames to be sealed.
    public let outgoing: UnsafeMutableRawBufferPointer
    /// Sealed records: `outgoing` and 22 bytes per record, with room for handshake messages.
    public let sealed: UnsafeMutableRawBufferPointer
    /// For `writev`, pointing into `opened`.
    public let vectors: UnsafeMutablePointer<iovec>
    /// For `readv`, pointing into `outgoing`.
    public let readVectors: UnsafeMutablePointer<iovec>

    init() {
        func buffer(_ count: Int) -> UnsafeMutableRawBufferPointer {
            .allocate(byteCount: count, alignment: 4096)
        }
        self.received = buffer(Self.readBytes)
        self.opened = buffer(Self.readBytes + (64 << 10))
        self.outgoing = buffer(Self.writeBytes)
        self.sealed = buffer(Self.writeBytes + Self.writeBytes / 8 + (64 << 10))
        self.vectors = .allocate(capacity: Self.vectorsMax)
        self.readVectors = .allocate(capacity: Self.readVectorsMax)
    }

    deinit {
        self.received.deallocate()
        self.opened.deallocate()
        self.outgoing.deallocate()
        self.sealed.deallocate()
        self.vectors.deallocate()
        self.readVectors.deallocate()
    }
}
