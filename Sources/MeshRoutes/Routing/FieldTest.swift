import MeshHTTP

/// A ``TextMatch``, ready to be asked.
enum TextTest: Sendable {
    case exact([UInt8])
    case regex(BoundedRegex)

    init(_ match: TextMatch) throws(RegexError) {
        switch match {
        case .exact(let text): self = .exact(Array(text.utf8))
        case .regex(let pattern): self = .regex(try BoundedRegex(pattern))
        }
    }

    func matches(_ text: Span<UInt8>) -> Bool {
        switch self {
        case .exact(let wanted): text.equals(wanted)
        case .regex(let regex): regex.matches(text)
        }
    }
}

/// A ``FieldMatch`` for a header or a query parameter.
struct FieldTest: Sendable {
    enum Place: Sendable {
        case field
        /// `host` is not among the fields of a request: it is its authority.
        case authority
        case query
    }

    let place: Place
    let name: [UInt8]
    let value: TextTest

    /// Of several matches for one name only the first counts; header names are compared in lower case.
    static func headers(_ matches: [FieldMatch]) throws(RegexError) -> [FieldTest] {
        var tests: [FieldTest] = []
        for match in matches {
            let name = Array(match.name.utf8).map { (65...90).contains($0) ? $0 | 0x20 : $0 }
            if tests.contains(where: { $0.name == name }) { continue }
            let isHost = name.elementsEqual("host".utf8) || name.elementsEqual(":authority".utf8)
            tests.append(FieldTest(place: isHost ? .authority : .field, name: name, value: try TextTest(match.value)))
        }
        return tests
    }

    static func query(_ matches: [FieldMatch]) throws(RegexError) -> [FieldTest] {
        var tests: [FieldTest] = []
        for match in matches {
            let name = Array(match.name.utf8)
            if tests.contains(where: { $0.name == name }) { continue }
            tests.append(FieldTest(place: .query, name: name, value: try TextTest(match.value)))
        }
        return tests
    }

    func matches(_ request: RequestHead) -> Bool {
        switch self.place {
        case .field:
            guard let first = request.fields.firstIndex(bytes: self.name) else { return false }
            guard request.fields.firstIndex(bytes: self.name, from: first + 1) != nil else {
                return self.value.matches(request.fields.valueBytes(first).span)
            }
            return self.value.matches(request.fields.joinedValue(bytes: self.name, from: first).span)
        case .authority: return self.value.matches(request.authority.utf8.span)
        case .query:
            let target = request.path.utf8.span
            guard let range = QueryParameters.find(self.name, in: target) else { return false }
            switch self.value {
            case .exact(let text): return QueryParameters.decodes(target, range, to: text)
            case .regex(let regex): return regex.matches(QueryParameters.decoded(target, range).span)
            }
        }
    }
}

extension HTTP2HeaderList {
    /// All values of a name as one: RFC 9110, 5.3; and for cookies RFC 9113, 8.2.3.
    func joinedValue(bytes name: [UInt8], from first: Int) -> [UInt8] {
        let isCookie = name.elementsEqual("cookie".utf8)
        var joined = Array(self.valueBytes(first))
        var index = first
        while let next = self.firstIndex(bytes: name, from: index + 1) {
            joined += isCookie ? [UInt8(ascii: ";"), UInt8(ascii: " ")] : [UInt8(ascii: ","), UInt8(ascii: " ")]
            joined += self.valueBytes(next)
            index = next
        }
        return joined
    }
}
