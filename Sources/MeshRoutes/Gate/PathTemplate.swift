/// A path of an AuthorizationPolicy with `{*}` for one segment that is not empty and `{**}` for any text, slashes
/// included: `/a/{*}/b`, `/a/{**}`, `/{**}/b`. Each stands for a whole segment; behind `{**}` is only literal text.
package struct PathTemplate: Sendable {
    package enum Segment: Sendable {
        case literal([UInt8])
        case one
    }
    package let segments: [Segment]
    /// With its slash; nil: there is no `{**}`.
    package let rest: [UInt8]?

    /// nil for what is no template: the policy cannot be enforced then.
    init?(_ text: String) {
        guard text.utf8.first == UInt8(ascii: "/") else { return nil }
        let parts = text.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        var segments: [Segment] = []
        var rest: [UInt8]?
        for part in parts {
            if part.elementsEqual("{**}".utf8) {
                if rest != nil { return nil }
                rest = []
            } else if part.elementsEqual("{*}".utf8) {
                if rest != nil { return nil }
                segments.append(.one)
            } else {
                let isLiteral = !part.contains {
                    $0 == UInt8(ascii: "{") || $0 == UInt8(ascii: "}") || $0 == UInt8(ascii: "*")
                }
                guard isLiteral else { return nil }
                if rest != nil {
                    rest! += [UInt8(ascii: "/")] + part
                } else {
                    segments.append(.literal(Array(part)))
                }
            }
        }
        (self.segments, self.rest) = (segments, rest)
    }

    /// - Parameter end: of the path in `target`.
    func matches(_ target: Span<UInt8>, _ end: Int) -> Bool {
        var at = 0
        for segment in self.segments {
            guard at < end, target[at] == UInt8(ascii: "/") else { return false }
            at += 1
            switch segment {
            case .literal(let text):
                guard end - at >= text.count else { return false }
                for offset in text.indices where target[at + offset] != text[offset] { return false }
                at += text.count
            case .one:
                let start = at
                while at < end, target[at] != UInt8(ascii: "/") { at += 1 }
                if at == start { return false }
            }
        }
        guard let rest = self.rest else { return at == end }
        guard at < end, target[at] == UInt8(ascii: "/") else { return false }
        at += 1
        guard end - at >= rest.count else { return false }
        for offset in rest.indices where target[end - rest.count + offset] != rest[offset] { return false }
        return true
    }
}
