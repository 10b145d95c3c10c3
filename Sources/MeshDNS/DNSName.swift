/// A domain name: labels of bytes, compared without regard to the case of ASCII letters (RFC 4343).
///
/// Letters keep the case in which they came: some resolvers hide random bits in it and check them in the answer.
package struct DNSName: Hashable, Sendable, CustomStringConvertible {
    /// With every length byte and the root's zero (RFC 1035, 2.3.4).
    package static let bytesMax = 255
    package static let labelBytesMax = 63

    /// Each label behind its length; the root's zero is left out, so the root itself is empty.
    package let wire: [UInt8]

    package static let root = DNSName(checked: [])

    private init(checked wire: [UInt8]) { self.wire = wire }

    /// Nil for an empty or overlong label, and for more than ``bytesMax`` bytes.
    package init?(labels: some Sequence<ArraySlice<UInt8>>) {
        var wire: [UInt8] = []
        for label in labels {
            guard (1...Self.labelBytesMax).contains(label.count), wire.count + label.count + 2 <= Self.bytesMax else {
                return nil
            }
            wire.append(UInt8(label.count))
            wire += label
        }
        self.init(checked: wire)
    }

    /// Dots separate labels, one at the end is allowed; there is no escape.
    package init?(_ text: String) {
        var bytes = Array(text.utf8)[...]
        if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
        if bytes.isEmpty {
            guard text == "." else { return nil }
            self = .root
            return
        }
        self.init(labels: bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false))
    }

    package var labels: [ArraySlice<UInt8>] {
        var labels: [ArraySlice<UInt8>] = []
        var at = 0
        while at < self.wire.count {
            let end = at + 1 + Int(self.wire[at])
            labels.append(self.wire[at + 1..<end])
            at = end
        }
        return labels
    }

    /// The first labels of the name.
    package func prefix(labels count: Int) -> DNSName {
        var at = 0
        for _ in 0..<count where at < self.wire.count { at += 1 + Int(self.wire[at]) }
        return DNSName(checked: Array(self.wire[..<at]))
    }

    /// Where the last `count` labels begin in ``wire``; nil when the name is shorter.
    package func offset(ofLast count: Int) -> Int? {
        var starts: [Int] = []
        var at = 0
        while at < self.wire.count {
            starts.append(at)
            at += 1 + Int(self.wire[at])
        }
        return count <= starts.count ? (count == 0 ? self.wire.count : starts[starts.count - count]) : nil
    }

    /// The name as host names are written: lower case, dots, none at the end. Nil when a label holds anything but letters,
    /// digits, `-`, `_` and `*`: such a name is nobody's host name, and a dot inside a label must not pass for two labels.
    package var hostname: String? {
        var text: [UInt8] = []
        text.reserveCapacity(self.wire.count)
        for label in self.labels {
            if !text.isEmpty { text.append(UInt8(ascii: ".")) }
            for byte in label {
                let lower = Self.lower(byte)
                guard Self.isHostByte(lower) else { return nil }
                text.append(lower)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func isHostByte(_ lower: UInt8) -> Bool {
        switch lower {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"), UInt8(ascii: "*"):
            true
        default: false
        }
    }

    static func lower(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte + 32 : byte
    }

    package static func == (one: DNSName, other: DNSName) -> Bool {
        one.wire.count == other.wire.count
            && zip(one.wire, other.wire).allSatisfy { $0 == $1 || Self.lower($0) == Self.lower($1) }
    }

    package func hash(into hasher: inout Hasher) {
        for byte in self.wire { hasher.combine(Self.lower(byte)) }
    }

    /// For logs: with the dot at the end, and what is not printable as `\DDD` (RFC 1035, 5.1).
    package var description: String {
        var text = ""
        for label in self.labels {
            for byte in label {
                switch byte {
                case UInt8(ascii: "."), UInt8(ascii: "\\"): text += "\\" + String(UnicodeScalar(byte))
                case 0x21...0x7e: text.unicodeScalars.append(UnicodeScalar(byte))
                default:
                    let digits = String(byte)
                    text += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
                }
            }
            text += "."
        }
        return text.isEmpty ? "." : text
    }
}
