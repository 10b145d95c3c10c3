/// A set of octets.
struct ByteSet: Hashable, Sendable {
    private var low: (UInt64, UInt64) = (0, 0)
    private var high: (UInt64, UInt64) = (0, 0)

    static let all: ByteSet = ~ByteSet()

    init() {}
    init(_ byte: UInt8) { self.insert(byte) }
    init(_ range: ClosedRange<UInt8>) { for byte in range { self.insert(byte) } }
    init(_ bytes: String) { for byte in bytes.utf8 { self.insert(byte) } }

    var isEmpty: Bool { self.low == (0, 0) && self.high == (0, 0) }

    func contains(_ byte: UInt8) -> Bool {
        let word =
            switch byte >> 6 {
            case 0: self.low.0
            case 1: self.low.1
            case 2: self.high.0
            default: self.high.1
            }
        return word >> (byte & 63) & 1 == 1
    }

    mutating func insert(_ byte: UInt8) {
        let bit: UInt64 = 1 << (byte & 63)
        switch byte >> 6 {
        case 0: self.low.0 |= bit
        case 1: self.low.1 |= bit
        case 2: self.high.0 |= bit
        default: self.high.1 |= bit
        }
    }

    mutating func formUnion(_ other: ByteSet) {
        self.low = (self.low.0 | other.low.0, self.low.1 | other.low.1)
        self.high = (self.high.0 | other.high.0, self.high.1 | other.high.1)
    }

    static prefix func ~ (set: ByteSet) -> ByteSet {
        var result = ByteSet()
        result.low = (~set.low.0, ~set.low.1)
        result.high = (~set.high.0, ~set.high.1)
        return result
    }

    /// Letters of both cases when one of them is a member.
    var ignoringCase: ByteSet {
        var result = self
        for letter in UInt8(ascii: "a")...UInt8(ascii: "z") {
            if self.contains(letter) || self.contains(letter - 32) {
                result.insert(letter)
                result.insert(letter - 32)
            }
        }
        return result
    }

    static func == (left: ByteSet, right: ByteSet) -> Bool { left.low == right.low && left.high == right.high }

    func hash(into hasher: inout Hasher) {
        hasher.combine(self.low.0)
        hasher.combine(self.low.1)
        hasher.combine(self.high.0)
        hasher.combine(self.high.1)
    }
}
