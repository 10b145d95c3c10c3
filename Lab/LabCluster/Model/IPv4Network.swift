/// An IPv4 network in CIDR notation: `172.28.0.0/16`.
public struct IPv4Network: Hashable, Sendable, CustomStringConvertible {
    /// With the host bits cleared.
    public let address: UInt32
    public let prefixLength: Int

    public init(address: UInt32, prefixLength: Int) {
        self.prefixLength = prefixLength
        self.address = address & Self.mask(prefixLength)
    }

    /// Nil for anything but `a.b.c.d/n`; a bare address is a /32.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = parts.first.flatMap({ Self.address($0) }) else { return nil }
        guard parts.count == 2 else {
            self.init(address: address, prefixLength: 32)
            return
        }
        guard let length = Int(parts[1]), (0...32).contains(length) else { return nil }
        self.init(address: address, prefixLength: length)
    }

    private static func mask(_ length: Int) -> UInt32 { length == 0 ? 0 : ~UInt32(0) << UInt32(32 - length) }

    public static func address(_ text: some StringProtocol) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }),
                let byte = UInt8(part)
            else { return nil }
            value = value << 8 | UInt32(byte)
        }
        return value
    }

    public static func text(_ address: UInt32) -> String {
        [24, 16, 8, 0].map { String(address >> $0 & 0xff) }.joined(separator: ".")
    }

    public func contains(_ address: UInt32) -> Bool { address & Self.mask(self.prefixLength) == self.address }
    public func overlaps(_ other: IPv4Network) -> Bool {
        self.contains(other.address) || other.contains(self.address)
    }
    /// The n-th address; 0 is the network's own.
    public func host(_ index: Int) -> String { Self.text(self.address + UInt32(index)) }

    public var description: String { "\(Self.text(self.address))/\(self.prefixLength)" }
}
