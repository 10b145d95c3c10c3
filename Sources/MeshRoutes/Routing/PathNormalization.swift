/// One form for all the ways to write a path, so that what routes and policies see is what the server sees.
///
/// Istio's `pathNormalization`; it is applied to the request itself, before anything looks at its path and before it is
/// forwarded. The query is left alone.
package enum PathNormalization: UInt8, Hashable, Sendable {
    case none = 0
    /// Istio's default. RFC 3986, 6.2.2: escapes of unreserved characters are decoded (`%2e` is `.`), other escapes get
    /// capital digits, a `%` that begins none is written `%25`, `.` and `..` are resolved and never lead above the root; and `\` becomes `/`, as browsers have it.
    /// Escaped slashes (`%2F`, `%5C`) stay escaped and repeated slashes stay: a server that treats `a%2Fb` or `a//b` like
    /// `a/b` needs one of the stricter forms.
    case base
    /// Repeated slashes become one, too.
    case mergeSlashes
    /// `%2F` and `%5C` become slashes, before anything else.
    case decodeAndMergeSlashes

    /// The target with its path normalised; the same text, without a copy, when there is nothing to do.
    /// - Throws: for what no client means well: answer 400.
    package func normalized(_ target: String) throws(PathRefusal) -> String {
        let hasWork = try self.hasWork(target.utf8.span)
        return hasWork ? try self.rewritten(Array(target.utf8)) : target
    }

    private func hasWork(_ text: Span<UInt8>) throws(PathRefusal) -> Bool {
        var found = false
        var before: UInt8 = 0
        for at in text.indices {
            let byte = text[at]
            switch byte {
            case UInt8(ascii: "?"):
                for later in at..<text.count where text[later] == UInt8(ascii: "#") { throw .fragment }
                return found
            case UInt8(ascii: "#"): throw .fragment
            case UInt8(ascii: "%"), UInt8(ascii: "\\"): found = true
            case UInt8(ascii: "."), UInt8(ascii: "/"): if before == UInt8(ascii: "/") { found = true }
            default: break
            }
            before = byte
        }
        return found
    }

    private func rewritten(_ target: [UInt8]) throws(PathRefusal) -> String {
        let end = target.firstIndex(of: UInt8(ascii: "?")) ?? target.count
        if self == .none { return String(decoding: target, as: UTF8.self) }
        var path = try self.decoded(target[..<end])
        if self != .base { path = Self.merged(path) }
        path = Self.withoutDots(path)
        return String(decoding: path + target[end...], as: UTF8.self)
    }

    private func decoded(_ path: ArraySlice<UInt8>) throws(PathRefusal) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(path.count)
        var at = path.startIndex
        while at < path.endIndex {
            let byte = path[at]
            at += 1
            guard byte == UInt8(ascii: "%"), at + 1 < path.endIndex, let high = Hexadecimal.value(path[at]),
                let low = Hexadecimal.value(path[at + 1])
            else {
                switch byte {
                case UInt8(ascii: "\\"): result.append(UInt8(ascii: "/"))
                // With what is decoded behind it, it would become an escape that nobody has looked at.
                case UInt8(ascii: "%"): result += "%25".utf8
                default: result.append(byte)
                }
                continue
            }
            at += 2
            let octet = high << 4 | low
            switch octet {
            case 0: throw .escapedNull
            case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"), 48...57, 65...90, 97...122:
                result.append(octet)
            case UInt8(ascii: "/"), UInt8(ascii: "\\"):
                if self == .decodeAndMergeSlashes {
                    result.append(UInt8(ascii: "/"))
                } else {
                    fallthrough
                }
            default: result += [UInt8(ascii: "%"), Hexadecimal.digit(high), Hexadecimal.digit(low)]
            }
        }
        return result
    }

    private static func merged(_ path: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        for byte in path where byte != UInt8(ascii: "/") || result.last != byte { result.append(byte) }
        return result
    }

    /// RFC 3986, 5.2.4, for a path that begins with a slash.
    private static func withoutDots(_ path: [UInt8]) -> [UInt8] {
        let slash = UInt8(ascii: "/")
        let dot = UInt8(ascii: ".")
        guard path.first == slash else { return path }
        var result: [UInt8] = []
        result.reserveCapacity(path.count)
        var at = 0
        while at < path.count {
            // At a slash; the segment behind it:
            let end = path[(at + 1)...].firstIndex(of: slash) ?? path.count
            let segment = path[(at + 1)..<end]
            let isLast = end == path.count
            if segment.count == 1, segment.first == dot {
                if isLast { result.append(slash) }
            } else if segment.count == 2, segment.first == dot, segment.last == dot {
                result.removeSubrange((result.lastIndex(of: slash) ?? 0)...)
                if isLast { result.append(slash) }
            } else {
                result.append(slash)
                result += segment
            }
            at = end
        }
        return result.isEmpty ? [slash] : result
    }

    /// The same change of escapes for a path of the configuration, so that `/a%2fb` there means what it means here.
    package static func canonicalEscapes(_ path: String) -> String {
        guard path.utf8.contains(UInt8(ascii: "%")),
            let octets = try? PathNormalization.base.decoded(Array(path.utf8)[...])
        else { return path }
        return String(decoding: octets, as: UTF8.self)
    }
}

/// Why a target is refused with 400.
package enum PathRefusal: Error, Hashable, CustomStringConvertible {
    /// RFC 9112, 3.2: a request target has none. Some servers end the path there, some do not.
    case fragment
    /// Some servers end a text there.
    case escapedNull

    package var description: String {
        switch self {
        case .fragment: "the request target has a fragment (#)"
        case .escapedNull: "the path contains %00"
        }
    }
}
