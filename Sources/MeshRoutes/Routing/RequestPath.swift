/// Where the parts of a request's target begin and end.
package enum RequestPath {
    /// Octets before the query.
    package static func pathBytes(_ target: Span<UInt8>) -> Int {
        for at in target.indices where target[at] == UInt8(ascii: "?") { return at }
        return target.count
    }

    /// The path without its query.
    package static func path(_ target: String) -> Substring {
        target.utf8.firstIndex(of: UInt8(ascii: "?")).map { target[..<$0] } ?? target[...]
    }

    /// With its question mark; the empty text when there is none.
    package static func query(_ target: String) -> Substring {
        target.utf8.firstIndex(of: UInt8(ascii: "?")).map { target[$0...] } ?? ""
    }
}

/// Parameters of a query: pieces between `&`, name and value between them the first `=`.
///
/// As servers read forms (WHATWG URL, "application/x-www-form-urlencoded parsing"): `%XX` is an octet, `+` a space, a
/// broken escape stands for itself. A parameter without `=` has the empty value.
package enum QueryParameters {
    /// Where the first parameter of that (decoded) name has its value, in `target`.
    package static func find(_ name: [UInt8], in target: Span<UInt8>) -> Range<Int>? {
        var at = RequestPath.pathBytes(target)
        while at < target.count {
            let start = at + 1
            var end = start
            var equals: Int?
            while end < target.count, target[end] != UInt8(ascii: "&") {
                if equals == nil, target[end] == UInt8(ascii: "=") { equals = end }
                end += 1
            }
            if Self.decodes(target, start..<(equals ?? end), to: name) {
                return equals.map { $0 + 1..<end } ?? end..<end
            }
            at = end
        }
        return nil
    }

    /// Whether octets of `target`, decoded, are `text`.
    package static func decodes(_ target: Span<UInt8>, _ range: Range<Int>, to text: [UInt8]) -> Bool {
        var at = range.lowerBound
        var matched = 0
        while at < range.upperBound {
            guard matched < text.count, Self.next(target, &at, range.upperBound) == text[matched] else { return false }
            matched += 1
        }
        return matched == text.count
    }

    package static func decoded(_ target: Span<UInt8>, _ range: Range<Int>) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(range.count)
        var at = range.lowerBound
        while at < range.upperBound { result.append(Self.next(target, &at, range.upperBound)) }
        return result
    }

    private static func next(_ target: Span<UInt8>, _ at: inout Int, _ end: Int) -> UInt8 {
        let byte = target[at]
        at += 1
        if byte == UInt8(ascii: "+") { return UInt8(ascii: " ") }
        guard byte == UInt8(ascii: "%"), at + 1 < end, let high = Hexadecimal.value(target[at]),
            let low = Hexadecimal.value(target[at + 1])
        else { return byte }
        at += 2
        return high << 4 | low
    }
}

enum Hexadecimal {
    @inline(__always)
    static func value(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }

    static func digit(_ value: UInt8) -> UInt8 { value < 10 ? value + 48 : value + 55 }
}
