/// An IPv4 or IPv6 address as a value: 16 bytes, no allocation. An IPv4-mapped IPv6 address is always
/// stored as the IPv4 address it maps (`spec` of the data plane: every address is normalised this way).
public struct IPAddress: Hashable, Sendable {
    /// IPv6; an IPv4 address is kept as the IPv6 address that maps it, which no other address can be.
    private let upper, lower: UInt64

    private init(upper: UInt64, lower: UInt64) {
        self.upper = upper
        self.lower = lower
    }

    /// ::ffff:0:0/96, as the upper half of `lower` (RFC 4291, 2.5.5.2).
    private static let mapped: UInt64 = 0xffff

    public var isV6: Bool { self.upper != 0 || self.lower >> 32 != Self.mapped }
    /// Network order read as big-endian numbers; an IPv4 address is the lowest 32 bits of `low`.
    public var high: UInt64 { self.upper }
    public var low: UInt64 { self.isV6 ? self.lower : self.lower & 0xffff_ffff }

    public init(v4 bits: UInt32) { self.init(upper: 0, lower: Self.mapped << 32 | UInt64(bits)) }

    public init(v6High high: UInt64, low: UInt64) { self.init(upper: high, lower: low) }

    /// Four or sixteen bytes in network order; nil for any other count.
    public init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: self.init(v4: bytes.reduce(0) { $0 << 8 | UInt32($1) })
        case 16:
            self.init(
                v6High: bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) },
                low: bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) })
        default: return nil
        }
    }

    /// Network order, 4 or 16 bytes.
    public var bytes: [UInt8] {
        self.isV6
            ? Self.octets(self.high) + Self.octets(self.low)
            : Array(Self.octets(self.low).suffix(4))
    }

    public var bitWidth: Int { self.isV6 ? 128 : 32 }
    public var isLoopback: Bool { self.isV6 ? self.high == 0 && self.low == 1 : self.low >> 24 == 127 }

    private static func octets(_ value: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * UInt64($0))) }
    }
}

extension IPAddress: LosslessStringConvertible {
    /// Dotted quad, or RFC 4291 text with `::` and an embedded dotted quad; no zone, no brackets.
    public init?(_ text: String) { self.init(text[...]) }

    public init?(_ text: Substring) {
        if text.utf8.contains(UInt8(ascii: ":")) {
            self.init(v6Text: text)
        } else {
            guard let bits = Self.parseV4(text) else { return nil }
            self.init(v4: bits)
        }
    }

    private init?(v6Text text: Substring) {
        guard text.utf8.count <= 45 else { return nil }
        var groups: [UInt16] = []
        var gapAt: Int?
        var rest = text
        if rest.hasPrefix("::") {
            gapAt = 0
            rest = rest.dropFirst(2)
        }
        while !rest.isEmpty {
            let end = rest.firstIndex(of: ":") ?? rest.endIndex
            let part = rest[..<end]
            if part.contains(".") {
                guard end == rest.endIndex, let v4 = Self.parseV4(part) else { return nil }
                groups += [UInt16(v4 >> 16), UInt16(truncatingIfNeeded: v4)]
                rest = ""
                break
            }
            guard (1...4).contains(part.utf8.count), part.utf8.allSatisfy(Self.isHex),
                let group = UInt16(part, radix: 16)
            else { return nil }
            groups.append(group)
            guard end < rest.endIndex else { break }
            rest = rest[rest.index(after: end)...]
            if rest.isEmpty { return nil }
            if rest.first == ":" {
                guard gapAt == nil else { return nil }
                gapAt = groups.count
                rest = rest.dropFirst()
            }
        }
        if let gapAt {
            guard groups.count < 8 else { return nil }
            groups.insert(contentsOf: repeatElement(0, count: 8 - groups.count), at: gapAt)
        }
        guard groups.count == 8 else { return nil }
        self.init(
            v6High: groups[0..<4].reduce(0) { $0 << 16 | UInt64($1) },
            low: groups[4..<8].reduce(0) { $0 << 16 | UInt64($1) })
    }

    private static func isHex(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...70).contains(byte) || (97...102).contains(byte)
    }

    private static func parseV4(_ text: Substring) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var bits: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }),
                let octet = UInt8(part), part.utf8.count == 1 || part.first != "0"
            else { return nil }
            bits = bits << 8 | UInt32(octet)
        }
        return bits
    }

    /// RFC 5952 text.
    public var description: String {
        guard self.isV6 else {
            let b = UInt32(truncatingIfNeeded: self.low)
            return "\(b >> 24).\(b >> 16 & 255).\(b >> 8 & 255).\(b & 255)"
        }
        let groups = (0..<8).map { i in
            UInt16(truncatingIfNeeded: (i < 4 ? self.high : self.low) >> (48 - 16 * UInt64(i % 4)))
        }
        var best = 0..<0
        var i = 0
        while i < 8 {
            var j = i
            while j < 8, groups[j] == 0 { j += 1 }
            if j - i > best.count, j - i > 1 { best = i..<j }
            i = max(j, i + 1)
        }
        func text(_ range: Range<Int>) -> String {
            groups[range].map { String($0, radix: 16) }.joined(separator: ":")
        }
        return best.isEmpty ? text(0..<8) : text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
    }
}

/// An address and a TCP or UDP port.
public struct IPEndpoint: Hashable, Sendable, CustomStringConvertible {
    public let address: IPAddress
    public let port: UInt16

    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// `1.2.3.4:80` or `[2001:db8::1]:80`; the port is required, 0 to 65535.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let digits = text[text.index(after: colon)...]
        guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }),
            let port = UInt16(digits)
        else { return nil }
        var host = text[..<colon]
        if host.first == "[", host.last == "]" {
            host = host.dropFirst().dropLast()
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        guard let address = IPAddress(host) else { return nil }
        self.init(address: address, port: port)
    }

    public var description: String {
        self.address.isV6 ? "[\(self.address)]:\(self.port)" : "\(self.address):\(self.port)"
    }
}

/// A block of addresses. The base is masked on creation.
public struct CIDR: Hashable, Sendable, CustomStringConvertible {
    public let base: IPAddress
    public let prefixLength: Int

    /// - Returns: nil when the length is negative or longer than the address. An IPv4-mapped base has become IPv4
    ///   already, so its length counts from the IPv4 address's first bit.
    public init?(base: IPAddress, prefixLength: Int) {
        guard (0...base.bitWidth).contains(prefixLength) else { return nil }
        self.base = Self.mask(base, prefixLength)
        self.prefixLength = prefixLength
    }

    /// `10.0.0.0/8`, `2001:db8::/32`, or a bare address (a block of one).
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = IPAddress(parts[0]) else { return nil }
        // `::ffff:10.0.0.0/104` would mean 10.0.0.0/8, but says something else here: refused, not guessed.
        if parts.count == 2, !address.isV6, parts[0].utf8.contains(UInt8(ascii: ":")) { return nil }
        guard parts.count == 2 else {
            self.init(base: address, prefixLength: address.bitWidth)
            return
        }
        guard parts[1].utf8.allSatisfy({ (48...57).contains($0) }), let length = Int(parts[1]) else { return nil }
        self.init(base: address, prefixLength: length)
    }

    /// False for an address of the other family.
    public func contains(_ address: IPAddress) -> Bool {
        address.isV6 == self.base.isV6 && Self.mask(address, self.prefixLength) == self.base
    }

    public var description: String { "\(self.base)/\(self.prefixLength)" }

    private static func mask(_ address: IPAddress, _ length: Int) -> IPAddress {
        if !address.isV6 {
            let bits = UInt32(truncatingIfNeeded: address.low)
            return IPAddress(v4: length == 0 ? 0 : bits & (~0 << (32 - UInt32(length))))
        }
        let high = length >= 64 ? address.high : (length == 0 ? 0 : address.high & (~0 << (64 - UInt64(length))))
        let low = length <= 64 ? 0 : (length == 128 ? address.low : address.low & (~0 << (128 - UInt64(length))))
        return IPAddress(v6High: high, low: low)
    }
}
