import Glibc

/// Bytes in order; memory stays from one use to the next.
final class ByteQueue {
    private var storage = UnsafeMutableRawPointer.allocate(byteCount: 1 << 12, alignment: 16)
    private var capacity = 1 << 12
    private var start = 0
    private(set) var count = 0

    deinit { self.storage.deallocate() }

    var isEmpty: Bool { self.count == 0 }
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: self.storage + self.start, count: self.count) }

    func append(_ bytes: UnsafeRawPointer, _ length: Int) {
        if self.start + self.count + length > self.capacity {
            if self.count + length > self.capacity {
                self.capacity = (self.count + length) * 2
                let grown = UnsafeMutableRawPointer.allocate(byteCount: self.capacity, alignment: 16)
                memcpy(grown, self.storage + self.start, self.count)
                self.storage.deallocate()
                self.storage = grown
            } else {
                memmove(self.storage, self.storage + self.start, self.count)
            }
            self.start = 0
        }
        memcpy(self.storage + self.start + self.count, bytes, length)
        self.count += length
    }

    func take(_ length: Int, into target: UnsafeMutableRawPointer) {
        memcpy(target, self.storage + self.start, length)
        self.drop(length)
    }

    func drop(_ length: Int) {
        precondition(length <= self.count)
        self.start += length
        self.count -= length
        if self.count == 0 { self.start = 0 }
    }

    func move(_ length: Int, to other: ByteQueue) {
        other.append(self.storage + self.start, length)
        self.drop(length)
    }

    func removeAll() {
        self.start = 0
        self.count = 0
    }
}

/// SplitMix64: the same sequence for the same seed on every machine.
struct SimulationRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed &* 0x2545_f491_4f6c_dd1d &+ 1 }

    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var z = self.state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }

    /// 0 to `bound` - 1; the small bias does not matter here, the speed does.
    mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: self.next() >> 33) % bound }
    mutating func chance(_ part: Int, of whole: Int) -> Bool { self.below(whole) < part }
}
