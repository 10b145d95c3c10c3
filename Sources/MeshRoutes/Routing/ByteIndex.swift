/// FNV-1a over octets, taken one by one: all prefixes of a text have their hashes on the way.
///
/// What is looked up comes from clients, but what is stored comes from configuration only: a client cannot make the
/// chains longer, so that no secret seed is needed.
struct RunningHash {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    @inline(__always)
    mutating func add(_ byte: UInt8) { self.value = (self.value ^ UInt64(byte)) &* 0x100_0000_01b3 }

    init() {}

    init(_ bytes: some Sequence<UInt8>) { for byte in bytes { self.add(byte) } }
}

/// Numbers by octet strings, asked with a ``RunningHash``: no text is built for a look-up. Immutable once filled.
struct ByteIndex: Sendable {
    private var keys: [[UInt8]] = []
    /// Positions in ``keys``, or -1; a power of two of them, at most half full.
    private var slots: [Int32] = [Int32](repeating: -1, count: 8)
    private(set) var keyBytesMax = 0

    var count: Int { self.keys.count }
    var isEmpty: Bool { self.keys.isEmpty }

    /// The number of a key: 0 for the first one that was new, and so on.
    mutating func insert(_ key: [UInt8]) -> Int {
        let hash = RunningHash(key).value
        if let old = self.find(hash, { $0 == key }) { return old }
        if (self.keys.count + 1) * 2 > self.slots.count {
            self.slots = [Int32](repeating: -1, count: self.slots.count * 2)
            for (number, key) in self.keys.enumerated() { self.place(Int32(number), RunningHash(key).value) }
        }
        self.keys.append(key)
        self.keyBytesMax = max(self.keyBytesMax, key.count)
        self.place(Int32(self.keys.count - 1), hash)
        return self.keys.count - 1
    }

    private mutating func place(_ number: Int32, _ hash: UInt64) {
        var slot = self.slot(hash)
        while self.slots[slot] >= 0 { slot = (slot + 1) & (self.slots.count - 1) }
        self.slots[slot] = number
    }

    @inline(__always)
    private func slot(_ hash: UInt64) -> Int {
        // FNV's low bits alone are poor for short keys.
        Int(truncatingIfNeeded: hash ^ hash >> 32) & (self.slots.count - 1)
    }

    /// - Parameter hash: of the key that is looked for.
    @inline(__always)
    func find(_ hash: UInt64, _ isKey: ([UInt8]) -> Bool) -> Int? {
        var slot = self.slot(hash)
        while self.slots[slot] >= 0 {
            let number = Int(self.slots[slot])
            if isKey(self.keys[number]) { return number }
            slot = (slot + 1) & (self.slots.count - 1)
        }
        return nil
    }

    func find(_ bytes: ArraySlice<UInt8>) -> Int? { self.find(RunningHash(bytes).value) { $0[...] == bytes } }

    /// The key that is the first `count` octets of `text`, whose hash is known.
    @inline(__always)
    func find(_ hash: UInt64, _ text: Span<UInt8>, count: Int) -> Int? {
        var slot = self.slot(hash)
        while self.slots[slot] >= 0 {
            let number = Int(self.slots[slot])
            if text.starts(with: self.keys[number], count: count) { return number }
            slot = (slot + 1) & (self.slots.count - 1)
        }
        return nil
    }
}

extension Span where Element == UInt8 {
    /// Whether the first `count` octets are exactly these.
    @inline(__always)
    func starts(with bytes: [UInt8], count: Int) -> Bool {
        guard bytes.count == count, self.count >= count else { return false }
        for at in 0..<count where self[at] != bytes[at] { return false }
        return true
    }

    func equals(_ bytes: [UInt8]) -> Bool { self.count == bytes.count && self.starts(with: bytes, count: bytes.count) }
}
