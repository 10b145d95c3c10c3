/// A domain name (RFC 1035 section 3.1): labels without the root's empty one, kept as they were asked.
package struct DNSName: Hashable, Sendable, CustomStringConvertible {
    package static let labelBytesMax = 63
    /// With length bytes and the root.
    package static let bytesMax = 255

    /// Raw bytes: a label may hold anything, dots included.
    package let labels: [[UInt8]]

    /// - Returns: Nil when a label is empty or too long, or all together are.
    package init?(labels: [[UInt8]]) {
        guard labels.allSatisfy({ (1...Self.labelBytesMax).contains($0.count) }),
            labels.reduce(1, { $0 + $1.count + 1 }) <= Self.bytesMax
        else { return nil }
        self.labels = labels
    }

    /// Reads dotted text without escapes; a final dot may be there.
    package init?(_ text: String) {
        let bare = text.hasSuffix(".") ? text.dropLast() : text[...]
        if bare.isEmpty {
            self.init(labels: [])
            return
        }
        self.init(
            labels: bare.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map(Array.init))
    }

    package var description: String {
        self.labels.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ".") + "."
    }

    /// Names compare without regard to ASCII case (RFC 4343).
    package var lowercased: DNSName {
        DNSName(lowering: self.labels.map { $0.map { (65...90).contains($0) ? $0 + 32 : $0 } })
    }
    private init(lowering labels: [[UInt8]]) { self.labels = labels }

    /// The labels before `zone`, in lower case; nil when the name is not at or below it.
    package func below(_ zone: DNSName) -> [String]? {
        let own = self.lowercased.labels
        let other = zone.lowercased.labels
        guard own.count >= other.count, Array(own.suffix(other.count)) == other else { return nil }
        return own.dropLast(other.count).map { String(decoding: $0, as: UTF8.self) }
    }
}
