/// A regular expression in RE2's syntax that must match the whole text, in time that grows with the text only.
///
/// Works on octets: `.` and a negated class take one octet, so that a character outside ASCII counts as several.
/// What ``RegexParser`` lists is understood; looking around, references back, word boundaries, Unicode classes and the
/// flag `m` are refused by name.
package struct BoundedRegex: Sendable, CustomStringConvertible {
    /// The Gateway API's longest value.
    package static let patternBytesMax = 4096
    /// Texts longer than this do not match patterns that have no table (``RegexTable``): there each octet costs up to
    /// ``RegexProgram/stepsMax`` steps on the event loop.
    package static let slowTextBytesMax = 8192

    package let description: String
    private let program: RegexProgram
    private let table: RegexTable?

    package init(_ pattern: String) throws(RegexError) {
        let octets = Array(pattern.utf8)
        guard octets.count <= Self.patternBytesMax else {
            throw .tooLarge("longer than \(Self.patternBytesMax) bytes")
        }
        var parser = RegexParser(octets)
        self.program = try RegexProgram(try parser.parse())
        self.table = RegexTable(self.program)
        self.description = pattern
    }

    /// Whether matching takes one look-up for each octet.
    package var isTabled: Bool { self.table != nil }

    package func matches(_ text: Span<UInt8>) -> Bool {
        if let table = self.table { return table.matches(text) }
        return text.count <= Self.slowTextBytesMax && self.matchesByThreads(text)
    }

    package func matches(_ text: String) -> Bool { self.matches(text.utf8.span) }

    /// Without the table. For patterns that have none, and for comparing the two.
    package func matchesByThreads(_ text: Span<UInt8>) -> Bool {
        var now = RegexThreads(self.program)
        var then = RegexThreads(self.program)
        now.clear()
        now.enter(0, self.program, atStart: true)
        for at in text.indices {
            let byte = text[at]
            then.clear()
            for step in now.steps {
                guard case .read(let set) = self.program.steps[Int(step)], self.program.sets[set].contains(byte) else {
                    continue
                }
                then.enter(Int(step) + 1, self.program, atStart: false)
            }
            if then.steps.isEmpty { return false }
            swap(&now, &then)
        }
        return now.canEnd(self.program, atStart: text.isEmpty)
    }
}
