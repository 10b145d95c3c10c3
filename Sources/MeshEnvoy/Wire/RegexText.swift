/// Texts as parts of RE2 patterns.
enum RegexText {
    /// The text itself.
    static func literal(_ text: some StringProtocol) -> String {
        var pattern = ""
        for character in text.unicodeScalars {
            if Self.special.contains(character) { pattern.append("\\") }
            pattern.unicodeScalars.append(character)
        }
        return pattern
    }

    private static let special = Set("\\^$.|?*+()[]{}-".unicodeScalars)

    /// A piece of a path: the digits of its escapes may be written in any case, which Envoy leaves as they come.
    static func path(_ text: some StringProtocol) -> String {
        var pattern = ""
        var rest = text[...]
        while let percent = rest.firstIndex(of: "%") {
            pattern += Self.literal(rest[..<percent])
            let digits = rest[percent...].prefix(3)
            pattern += "(?i:\(Self.literal(digits)))"
            rest = rest[digits.endIndex...]
        }
        return pattern + Self.literal(rest)
    }

    /// What stands in for a match in a replacement: `\` is RE2's own there.
    static func replacement(_ text: some StringProtocol) -> String { Self.doubled("\\", in: text) }

    /// Where a character begins a command, two of them stand for one.
    static func doubled(_ character: Character, in text: some StringProtocol) -> String {
        text.split(separator: character, omittingEmptySubsequences: false).joined(separator: "\(character)\(character)")
    }
}
