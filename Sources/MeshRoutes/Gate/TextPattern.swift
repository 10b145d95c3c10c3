import MeshModel

/// A ``AuthorizationPolicy/StringMatch``, ready to be asked about octets: texts that only look alike are different.
///
/// The empty text matches nothing, it stands for what is not there.
package struct TextPattern: Sendable {
    package enum Shape: Sendable { case exact, prefix, suffix, presence }
    package let shape: Shape
    /// In lower case where that does not matter.
    package let text: [UInt8]
    package let ignoresCase: Bool

    init(_ match: AuthorizationPolicy.StringMatch, ignoresCase: Bool = false) {
        let text: String
        switch match {
        case .exact(let exact): (self.shape, text) = (.exact, exact)
        case .prefix(let prefix): (self.shape, text) = (.prefix, prefix)
        case .suffix(let suffix): (self.shape, text) = (.suffix, suffix)
        case .presence: (self.shape, text) = (.presence, "")
        }
        self.text = ignoresCase ? text.utf8.map(Self.lower) : Array(text.utf8)
        self.ignoresCase = ignoresCase
    }

    var isPresence: Bool { self.shape == .presence }

    func matches(_ value: String) -> Bool {
        let span = value.utf8.span
        return self.matches(span, 0..<span.count)
    }

    func matches(_ value: Span<UInt8>, _ range: Range<Int>) -> Bool {
        if range.isEmpty { return false }
        switch self.shape {
        case .exact: return range.count == self.text.count && self.equals(value, range.lowerBound)
        case .prefix: return range.count >= self.text.count && self.equals(value, range.lowerBound)
        case .suffix:
            return range.count >= self.text.count && self.equals(value, range.upperBound - self.text.count)
        case .presence: return true
        }
    }

    private func equals(_ value: Span<UInt8>, _ start: Int) -> Bool {
        for at in self.text.indices {
            let byte = value[start + at]
            guard (self.ignoresCase ? Self.lower(byte) : byte) == self.text[at] else { return false }
        }
        return true
    }

    private static func lower(_ byte: UInt8) -> UInt8 { (65...90).contains(byte) ? byte | 0x20 : byte }
}
