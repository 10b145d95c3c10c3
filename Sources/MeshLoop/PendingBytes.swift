internal import Glibc

/// Bytes that a socket refused, in order: empty, and without memory, nearly always.
///
/// Its owner bounds it: by the flow-control window, or by not reading more while it is not empty. Never more than 2 GiB.
public struct PendingBytes: ~Copyable {
    private var storage: UnsafeMutableRawPointer?
    // Four bytes each: every connection has them.
    private var capacityBytes: Int32 = 0
    private var startBytes: Int32 = 0
    private var countBytes: Int32 = 0

    public init() {}

    deinit { self.storage?.deallocate() }

    public var isEmpty: Bool { self.countBytes == 0 }

    public private(set) var count: Int {
        get { Int(self.countBytes) }
        set { self.countBytes = Int32(newValue) }
    }

    private var capacity: Int {
        get { Int(self.capacityBytes) }
        set { self.capacityBytes = Int32(newValue) }
    }

    private var start: Int {
        get { Int(self.startBytes) }
        set { self.startBytes = Int32(newValue) }
    }

    public mutating func append(_ bytes: UnsafeRawPointer, _ length: Int) {
        guard length > 0 else { return }
        self.reserve(length)
        // SAFETY: `reserve` made room for `length` bytes behind the last one.
        memcpy(self.storage! + self.start + self.count, bytes, length)
        self.count += length
    }

    private mutating func reserve(_ length: Int) {
        if self.start + self.count + length <= self.capacity { return }
        if let storage, self.count + length <= self.capacity, self.start >= self.capacity / 2 {
            memmove(storage, storage + self.start, self.count)
            self.start = 0
            return
        }
        let capacity = max(16 << 10, (self.count + length) * 2)
        let grown = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        if let storage {
            memcpy(grown, storage + self.start, self.count)
            storage.deallocate()
        }
        self.storage = grown
        self.capacity = capacity
        self.start = 0
    }

    /// Writes to `descriptor` until empty or refused; memory goes when empty.
    /// - Returns: bytes written, and what stopped it: `.moved` when nothing is left.
    public mutating func write(to descriptor: CInt) -> (written: Int, stop: IOResult) {
        self.drain { Sockets.write(descriptor, $0, $1) }
    }

    /// The same with another way to write.
    @inline(__always)
    package mutating func drain(
        _ write: (UnsafeMutableRawPointer, Int) -> IOResult
    ) -> (written: Int, stop: IOResult) {
        var written = 0
        while self.count > 0, let storage {
            switch write(storage + self.start, self.count) {
            case .moved(let moved):
                self.start += moved
                self.count -= moved
                written += moved
            case let stop:
                return (written, stop)
            }
        }
        self.removeAll()
        return (written, .moved(written))
    }

    /// Moves up to `length` bytes to `target`; memory goes when nothing is left.
    package mutating func take(_ target: UnsafeMutableRawPointer, _ length: Int) -> Int {
        let moved = min(length, self.count)
        guard moved > 0, let storage else { return 0 }
        // SAFETY: `count` bytes from `start` are ours; the caller vouches for `length` bytes at `target`.
        memcpy(target, storage + self.start, moved)
        self.start += moved
        self.count -= moved
        if self.count == 0 { self.removeAll() }
        return moved
    }

    public mutating func removeAll() {
        self.storage?.deallocate()
        self.storage = nil
        self.capacity = 0
        self.start = 0
        self.count = 0
    }
}
