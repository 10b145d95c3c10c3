public import Glibc

/// The large buffers of one loop. A connection borrows them for the length of one call and owns none at rest.
///
/// SAFETY: one thread, and users never nest: whoever fills a buffer empties it (delivers, seals, or copies the
/// remainder) before it returns to the loop.
public final class ScratchBuffers {
    /// One read from a socket: a full default receive window of a fast local connection.
    public static let readBytes = 256 << 10
    /// Full records of one turn: the frames that go out together.
    public static let writeRecords = 16
    /// Scatter list entries per delivery to one socket; IOV_MAX is 1024.
    public static let vectorsMax = 1000
    /// Frames filled by one read.
    public static let readVectorsMax = 64

    /// Ciphertext, or plain bytes, as read; records are opened where they lie. Longer than one read by the beginning of
    /// a record that an earlier one brought.
    public let received: UnsafeMutableRawBufferPointer
    /// Frames of one tunnel's turn, sealed where they lie.
    public let outgoing: UnsafeMutableRawBufferPointer
    /// Messages of a handshake and last words. Not `outgoing`: while one tunnel fills that, a stream of it may fail and
    /// close another tunnel, the inner one of double HBONE.
    public let messages: UnsafeMutableRawBufferPointer
    /// For `writev`, pointing into `received`.
    public let vectors: UnsafeMutablePointer<iovec>
    /// For `readv`, pointing into `outgoing`.
    public let readVectors: UnsafeMutablePointer<iovec>

    init() {
        func buffer(_ count: Int) -> UnsafeMutableRawBufferPointer {
            .allocate(byteCount: count, alignment: 4096)
        }
        self.received = buffer(Self.readBytes + TLSRecord.bytesMax)
        // A record more than its name says: of control frames.
        let outgoingBytes = (Self.writeRecords + 1) * (TLSRecord.textBytesMax + TLSRecord.overheadBytes)
        self.outgoing = buffer(outgoingBytes)
        self.messages = buffer(outgoingBytes)
        self.vectors = .allocate(capacity: Self.vectorsMax)
        self.readVectors = .allocate(capacity: Self.readVectorsMax)
    }

    deinit {
        self.received.deallocate()
        self.outgoing.deallocate()
        self.messages.deallocate()
        self.vectors.deallocate()
        self.readVectors.deallocate()
    }
}
