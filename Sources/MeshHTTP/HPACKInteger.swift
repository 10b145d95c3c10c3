/// HPACK's prefix integers (RFC 7541 section 5.1).
enum HPACKInteger {
    /// More than any length or index that a bounded header block can mean.
    static let valueMax = 1 << 28

    /// Reads an integer whose first octet has `prefixBits` bits of it, and moves `at` past it.
    @inline(__always)
    static func read(
        _ bytes: UnsafeRawBufferPointer, _ at: inout Int, prefixBits: Int
    ) throws(HPACKError) -> Int {
        guard at < bytes.count else { throw .truncated }
        let mask = (1 << prefixBits) - 1
        var value = Int(bytes[at]) & mask
        at += 1
        guard value == mask else { return value }
        var shift = 0
        while true {
            guard at < bytes.count else { throw .truncated }
            let octet = Int(bytes[at])
            at += 1
            value += (octet & 0x7f) << shift
            guard value <= Self.valueMax else { throw .integerTooLarge }
            if octet & 0x80 == 0 { return value }
            shift += 7
            // Five octets reach 2^35; more are only padding with zeros.
            guard shift <= 28 else { throw .integerTooLarge }
        }
    }

    /// Appends an integer; `pattern` is what the bits above the prefix say.
    @inline(__always)
    static func append(_ value: Int, prefixBits: Int, pattern: UInt8, to bytes: inout [UInt8]) {
        let mask = (1 << prefixBits) - 1
        if value < mask {
            bytes.append(pattern | UInt8(truncatingIfNeeded: value))
            return
        }
        bytes.append(pattern | UInt8(truncatingIfNeeded: mask))
        var rest = value - mask
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }
}
