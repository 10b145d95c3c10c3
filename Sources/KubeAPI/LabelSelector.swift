/// Which labels an object must have. Two spellings exist: the `matchLabels`/`matchExpressions` object of manifests,
/// and the query text of URLs (`app=a,tier in (x,y),!old`).
public struct LabelSelector: Hashable, Sendable {
    public enum Operator: Hashable, Sendable { case isIn, notIn, exists, doesNotExist, greater, less }
    public struct Requirement: Hashable, Sendable {
        public var key: String
        public var op: Operator
        public var values: [String]
        public init(key: String, op: Operator, values: [String] = []) {
            self.key = key
            self.op = op
            self.values = values
        }

        /// `notIn` is true also when the label is absent.
        public func matches(_ labels: [String: String]) -> Bool {
            let value = labels[self.key]
            return switch self.op {
            case .isIn: value.map(self.values.contains) ?? false
            case .notIn: value.map { !self.values.contains($0) } ?? true
            case .exists: value != nil
            case .doesNotExist: value == nil
            case .greater: value.flatMap { Int64($0) }.map { $0 > Int64(self.values.first ?? "") ?? .max } ?? false
            case .less: value.flatMap { Int64($0) }.map { $0 < Int64(self.values.first ?? "") ?? .min } ?? false
            }
        }
    }

    public var requirements: [Requirement]

    /// Matches everything.
    public static let everything = LabelSelector(requirements: [])

    public init(requirements: [Requirement]) { self.requirements = requirements }

    public init(matchLabels: [String: String]) {
        self.requirements = matchLabels.sorted { $0.key < $1.key }
            .map { Requirement(key: $0.key, op: .isIn, values: [$0.value]) }
    }

    public func matches(_ labels: [String: String]) -> Bool {
        self.requirements.allSatisfy { $0.matches(labels) }
    }

    public struct Invalid: Error, Hashable, CustomStringConvertible {
        public let description: String
    }

    /// A manifest's `LabelSelector` object. An empty object matches everything; what a missing one means is the
    /// caller's to know.
    public init(_ json: JSONValue) throws(Invalid) {
        self.init(matchLabels: json["matchLabels"]?.stringMap ?? [:])
        for expression in json["matchExpressions"]?.array ?? [] {
            let key = expression["key"]?.string ?? ""
            let values = expression["values"]?.array?.compactMap(\.string) ?? []
            let op: Operator
            switch expression["operator"]?.string {
            case "In": op = .isIn
            case "NotIn": op = .notIn
            case "Exists": op = .exists
            case "DoesNotExist": op = .doesNotExist
            case let other:
                throw Invalid(
                    description:
                        "\"\(other ?? "")\" is not a valid label selector operator: wanted In, NotIn, Exists or DoesNotExist"
                )
            }
            if key.isEmpty { throw Invalid(description: "a label selector requirement needs a key") }
            if op == .isIn || op == .notIn, values.isEmpty {
                throw Invalid(
                    description: "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
            }
            self.requirements.append(Requirement(key: key, op: op, values: values))
        }
    }

    /// A URL's selector text.
    public init(query: String) throws(Invalid) {
        self.requirements = []
        for clause in try Self.clauses(query) { self.requirements.append(try Self.requirement(clause)) }
    }

    /// Splits at commas outside parentheses.
    private static func clauses(_ query: String) throws(Invalid) -> [String] {
        var clauses: [String] = []
        var clause = ""
        var depth = 0
        for character in query {
            switch character {
            case "(": depth += 1
            case ")": depth -= 1
            default: break
            }
            if character == ",", depth == 0 {
                clauses.append(clause)
                clause = ""
            } else {
                clause.append(character)
            }
        }
        if depth != 0 { throw Invalid(description: "unable to parse requirement: unbalanced parentheses in \(query)") }
        clauses.append(clause)
        let trimmed = clauses.map { Self.trim($0[...]) }
        if trimmed == [""] { return [] }
        return trimmed
    }

    private static func requirement(_ clause: String) throws(Invalid) -> Requirement {
        if clause.hasPrefix("!") {
            return Requirement(key: try Self.key(clause.dropFirst()), op: .doesNotExist)
        }
        if let open = clause.firstIndex(of: "("), clause.hasSuffix(")") {
            let words = clause[..<open].split(separator: " ")
            guard words.count == 2, words[1] == "in" || words[1] == "notin" else {
                throw Invalid(description: "unable to parse requirement: found '\(clause)', expected: in, notin")
            }
            let inside = clause[clause.index(after: open)...].dropLast()
            let values = inside.split(separator: ",", omittingEmptySubsequences: false).map(Self.trim)
            return Requirement(key: try Self.key(words[0]), op: words[1] == "in" ? .isIn : .notIn, values: values)
        }
        for (text, op) in [("!=", Operator.notIn), ("==", .isIn), ("=", .isIn), (">", .greater), ("<", .less)] {
            guard let range = Self.find(text, in: clause) else { continue }
            let value = Self.trim(clause[range.upperBound...])
            if value.contains(where: { "=!(), <>".contains($0) }) {
                throw Invalid(description: "unable to parse requirement: found '\(value)', expected: identifier")
            }
            return Requirement(key: try Self.key(clause[..<range.lowerBound]), op: op, values: [value])
        }
        return Requirement(key: try Self.key(clause[...]), op: .exists)
    }

    private static func key(_ text: Substring) throws(Invalid) -> String {
        let key = Self.trim(text)
        guard !key.isEmpty, !key.contains(where: { "=!(), <>".contains($0) }) else {
            throw Invalid(description: "unable to parse requirement: found '\(key)', expected: identifier")
        }
        return key
    }

    private static func find(_ text: String, in clause: String) -> Range<String.Index>? {
        var at = clause.startIndex
        while at < clause.endIndex {
            if clause[at...].hasPrefix(text) { return at..<clause.index(at, offsetBy: text.count) }
            at = clause.index(after: at)
        }
        return nil
    }

    private static func trim(_ text: Substring) -> String {
        String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    /// The query text; values are label values, so nothing needs escaping.
    public var query: String {
        self.requirements.map { requirement in
            switch requirement.op {
            case .isIn where requirement.values.count == 1: "\(requirement.key)=\(requirement.values[0])"
            case .isIn: "\(requirement.key) in (\(requirement.values.joined(separator: ",")))"
            case .notIn: "\(requirement.key) notin (\(requirement.values.joined(separator: ",")))"
            case .exists: requirement.key
            case .doesNotExist: "!\(requirement.key)"
            case .greater: "\(requirement.key)>\(requirement.values.first ?? "")"
            case .less: "\(requirement.key)<\(requirement.values.first ?? "")"
            }
        }.joined(separator: ",")
    }
}
