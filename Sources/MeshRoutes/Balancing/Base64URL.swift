/// RFC 4648, section 5, without padding.
package enum Base64URL {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    package static func encode(_ bytes: some Collection<UInt8>) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count * 4 + 2) / 3)
        var bits: UInt32 = 0
        var count: UInt32 = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            count += 8
            while count >= 6 {
                count -= 6
                text.append(Self.alphabet[Int(bits >> count & 63)])
            }
        }
        if count > 0 { text.append(Self.alphabet[Int(bits << (6 - count) & 63)]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// nil for characters of no alphabet, a length that no octets have, and bits that are left over and not zero: one
    /// value has one text.
    package static func decode(_ text: Span<UInt8>, _ range: Range<Int>) -> [UInt8]? {
        guard range.count % 4 != 1 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count * 3 / 4)
        var bits: UInt32 = 0
        var count: UInt32 = 0
        for at in range {
            let digit: UInt32
            switch text[at] {
            case let byte where (65...90).contains(byte): digit = UInt32(byte) - 65
            case let byte where (97...122).contains(byte): digit = UInt32(byte) - 71
            case let byte where (48...57).contains(byte): digit = UInt32(byte) + 4
            case UInt8(ascii: "-"): digit = 62
            case UInt8(ascii: "_"): digit = 63
            default: return nil
            }
            bits = bits << 6 | digit
            count += 6
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> count))
            }
        }
        guard bits & (1 << count - 1) == 0 else { return nil }
        return bytes
    }

    package static func decode(_ text: String) -> [UInt8]? {
        let span = text.utf8.span
        return Self.decode(span, 0..<span.count)
    }
}
