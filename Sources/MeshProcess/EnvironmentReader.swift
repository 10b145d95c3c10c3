/// A setting that cannot be used, and what would be.
package struct InvalidSetting: Error, Hashable, CustomStringConvertible {
    package let name, value, wanted: String

    package init(_ name: String, _ value: String, wanted: String) {
        self.name = name
        self.value = value
        self.wanted = wanted
    }

    package var description: String { "\(self.name)=\"\(self.value)\" cannot be used: wanted \(self.wanted)" }
}

/// Reads settings from an environment; an empty value counts as none.
package struct EnvironmentReader {
    package let variables: [String: String]

    package init(variables: [String: String]) { self.variables = variables }

    package func text(_ name: String) -> String? {
        guard let value = self.variables[name], !value.isEmpty else { return nil }
        return value
    }

    package func without(_ name: String) -> EnvironmentReader {
        EnvironmentReader(variables: self.variables.filter { $0.key != name })
    }

    package func flag(_ name: String) throws(InvalidSetting) -> Bool? {
        guard let text = self.text(name) else { return nil }
        switch text.lowercased() {
        case "true", "1": return true
        case "false", "0": return false
        default: throw InvalidSetting(name, text, wanted: "true or false")
        }
    }

    package func number(_ name: String, in range: ClosedRange<Int>) throws(InvalidSetting) -> Int? {
        guard let text = self.text(name) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw InvalidSetting(name, text, wanted: "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    package func duration(_ name: String) throws(InvalidSetting) -> Duration? {
        guard let text = self.text(name) else { return nil }
        guard let duration = Self.duration(text) else {
            throw InvalidSetting(name, text, wanted: "a duration such as 500ms, 30s, 5m or 1h30m")
        }
        return duration
    }

    /// Thousandths of a processor, rounded up.
    package func processors(_ name: String) throws(InvalidSetting) -> Int? {
        guard let text = self.text(name) else { return nil }
        guard let milli = Self.milli(text) else {
            throw InvalidSetting(name, text, wanted: "a Kubernetes quantity such as 500m, 2 or 1.5")
        }
        return milli
    }

    /// Every variable with the prefix; the prefix is cut off.
    package func all(prefix: String) -> [String: String] {
        var found: [String: String] = [:]
        for (name, value) in self.variables where name.hasPrefix(prefix) && name != prefix {
            found[String(name.dropFirst(prefix.count))] = value
        }
        return found
    }

    /// Go's text: numbers with a unit each, `h`, `m`, `s`, `ms`, `us` or `ns`.
    package static func duration(_ text: String) -> Duration? {
        var total = Duration.zero
        var rest = text[...]
        guard !rest.isEmpty, text.utf8.count <= 32 else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let number = Double(digits), number <= 1e9 else { return nil }
            switch unit {
            case "h": total += .seconds(number * 3600)
            case "m": total += .seconds(number * 60)
            case "s": total += .seconds(number)
            case "ms": total += .milliseconds(number)
            case "us": total += .microseconds(number)
            case "ns": total += .nanoseconds(Int64(number))
            default: return nil
            }
        }
        return total
    }

    private static func milli(_ text: String) -> Int? {
        let isMilli = text.hasSuffix("m")
        let digits = isMilli ? text.dropLast() : text[...]
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2e }),
            let number = Double(digits), number >= 0, number <= 100_000_000
        else { return nil }
        return Int((isMilli ? number : number * 1000).rounded(.up))
    }
}
