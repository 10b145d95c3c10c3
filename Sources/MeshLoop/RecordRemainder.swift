internal import Glibc

/// The beginning of a TLS record whose rest has not come yet: empty, and without memory, at rest.
public struct RecordRemainder: ~Copyable {
    private var storage: UnsafeMutableRawPointer?
    public private(set) var count = 0

    public init() {}

    deinit { self.storage?.deallocate() }

    /// Copies `bytes`, less than a record. Nothing else is kept then.
    public mutating func keep(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
        precondition(self.count == 0 && bytes.count < TLSRecord.bytesMax)
        let storage = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 16)
        // SAFETY: just allocated, of that length.
        memcpy(storage, base, bytes.count)
        self.storage = storage
        self.count = bytes.count
    }

    /// Moves what is kept to `target`, which has room for a record.
    /// - Returns: its length.
    public mutating func move(to target: UnsafeMutableRawPointer) -> Int {
        guard let storage else { return 0 }
        let count = self.count
        memcpy(target, storage, count)
        storage.deallocate()
        self.storage = nil
        self.count = 0
        return count
    }
}
