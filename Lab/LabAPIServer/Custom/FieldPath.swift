internal import KubeAPI

/// The JSONPath subset of printer columns: dots, `['a.b']`, `\.`, `[0]`, `[*]`, `[?(@.type=="Ready")]`.
struct FieldPath: Sendable, Hashable {
    private enum Step: Sendable, Hashable {
        case member(String), index(Int), every
        case filter([String], JSONValue)
    }

    let text: String
    private let steps: [Step]

    init(_ text: String) {
        self.text = text
        self.steps = Self.parse(text)
    }

    /// Path as in field selectors, without the leading dot.
    var label: String { self.text.hasPrefix(".") ? String(self.text.dropFirst()) : self.text }

    /// The first match.
    func first(in value: JSONValue) -> JSONValue? {
        var values = [value]
        for step in self.steps {
            values = values.flatMap { value -> [JSONValue] in
                switch step {
                case .member(let name): return value[name].map { [$0] } ?? []
                case .index(let index):
                    guard let elements = value.array else { return [] }
                    let at = index < 0 ? elements.count + index : index
                    return elements.indices.contains(at) ? [elements[at]] : []
                case .every: return value.array ?? value.object.map { Array($0.values) } ?? []
                case .filter(let path, let wanted): return (value.array ?? []).filter { $0.at(path) == wanted }
                }
            }
        }
        return values.first
    }

    private static func parse(_ text: String) -> [Step] {
        var steps: [Step] = []
        var rest = text[...]
        while let first = rest.first {
            if first == "." {
                rest = rest.dropFirst()
            } else if first == "[" {
                guard let end = self.closing(rest) else { return [.filter([], .null)] }
                steps.append(self.bracket(rest[rest.index(after: rest.startIndex)..<end]))
                rest = rest[rest.index(after: end)...]
            } else {
                var name = ""
                while let character = rest.first, character != ".", character != "[" {
                    rest = rest.dropFirst()
                    if character == "\\", let escaped = rest.first {
                        name.append(escaped)
                        rest = rest.dropFirst()
                    } else {
                        name.append(character)
                    }
                }
                steps.append(name == "*" ? .every : .member(name))
            }
        }
        return steps
    }

    /// The bracket that ends the one `text` starts with; quotes hide brackets.
    private static func closing(_ text: Substring) -> String.Index? {
        var quote: Character?
        for index in text.indices.dropFirst() {
            let character = text[index]
            if let open = quote {
                if character == open { quote = nil }
            } else if character == "\"" || character == "'" {
                quote = character
            } else if character == "]" {
                return index
            }
        }
        return nil
    }

    private static func bracket(_ body: Substring) -> Step {
        if body == "*" { return .every }
        if let index = Int(body) { return .index(index) }
        if let quote = body.first, quote == "'" || quote == "\"" { return .member(String(body.dropFirst().dropLast())) }
        // ?(@.type=="Ready")
        let inner = body.drop { $0 == "?" || $0 == "(" || $0 == " " }
        guard let equals = inner.firstRange(of: "==") else { return .filter([], .null) }
        let path = inner[..<equals.lowerBound].split(separator: ".").map { $0.filter { $0 != " " } }.filter {
            $0 != "@"
        }
        var value = String(inner[equals.upperBound...].drop { $0 == " " })
        while let last = value.last, last == ")" || last == " " { value.removeLast() }
        if let quote = value.first, quote == "\"" || quote == "'" {
            return .filter(path, .string(String(value.dropFirst().dropLast())))
        }
        return .filter(path, (try? JSONValue(parsing: value)) ?? .string(value))
    }
}
