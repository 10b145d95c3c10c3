import MeshRoutes
import Testing

@Suite("Regular expressions")
struct BoundedRegexTests {
    static let cases: [(pattern: String, matching: [String], other: [String])] = [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc", "ABC"]),
        ("a.c", ["abc", "a/c", "a.c"], ["ac", "a\nc", "abbc"]),
        ("(?s)a.c", ["a\nc"], ["ac"]),
        ("a|bc|", ["a", "bc", ""], ["b", "abc"]),
        ("(a|b)*c", ["c", "ac", "babac"], ["", "ab", "cc"]),
        ("a+b?", ["a", "aab"], ["", "b", "abb"]),
        ("a*?b+?c??", ["b", "aabbc"], ["a", "c"]),
        ("a{3}", ["aaa"], ["aa", "aaaa"]),
        ("a{2,}", ["aa", "aaaaa"], ["a"]),
        ("a{0,2}b", ["b", "ab", "aab"], ["aaab"]),
        ("x{0}y", ["y"], ["xy"]),
        ("a{,2}", ["a{,2}"], ["a"]),
        ("a{b", ["a{b"], ["a"]),
        ("[a-c]x[^a-c/]", ["axd", "cx."], ["axa", "dxd", "ax/"]),
        ("[]a]+", ["]a]"], ["b"]),
        ("[^]a]", ["b"], ["]", "a"]),
        ("[a-]+", ["-a-"], ["b"]),
        ("[[:alpha:]_]+[[:^digit:]]", ["ab_x"], ["ab1"]),
        (#"\d+\.\d*"#, ["1.", "22.5"], [".5", "1x"]),
        (#"[\w-]+\s\S\D\W"#, ["a-b x.!"], ["a b1!"]),
        (#"\Qa.b*\E+"#, ["a.b*", "a.b**"], ["axb*"]),
        (#"\x41\x{42}\t\/\-"#, ["AB\t/-"], ["AB /-"]),
        ("(?i)abc[x-z]", ["ABCY", "abcz"], ["abcd"]),
        ("(?i:a)b", ["Ab", "ab"], ["AB"]),
        ("a(?i)b(?-i)c", ["aBc", "abc"], ["aBC", "ABc"]),
        ("(?P<major>[0-9]+)(?:-(?<minor>x))?", ["12", "1-x"], ["-x"]),
        ("^a$", ["a"], ["aa", ""]),
        (#"\Aa\z|^$"#, ["a", ""], ["b"]),
        ("a^b|c$d|^a", ["a"], ["ab", "cd", "a^b"]),
        ("(a*)*", ["", "aaa"], ["b"]),
        ("(a|a)*(^|b)", ["", "b", "ab"], ["a"]),
        ("(|a)+", ["", "aa"], ["b"]),
        ("é+", ["é", "éé"], ["e", "e\u{301}"]),
        (".*", ["", "anything / at all", "é"], ["\n"]),
        ("/v[0-9]+/(users|items)/[^/]+", ["/v1/users/x", "/v22/items/é"], ["/v/users/x", "/v1/users/x/y"]),
    ]

    @Test("match the whole text or not at all", arguments: cases.map(\.pattern))
    func matches(pattern: String) throws {
        let entry = Self.cases.first { $0.pattern == pattern }!
        let regex = try BoundedRegex(pattern)
        #expect(regex.isTabled)
        for (texts, wanted) in [(entry.matching, true), (entry.other, false)] {
            for text in texts {
                #expect(regex.matches(text) == wanted, "\(pattern) on \(text)")
                #expect(regex.matchesByThreads(text.utf8.span) == wanted, "\(pattern) on \(text), without a table")
            }
        }
    }

    @Test(
        "say what is wrong with them",
        arguments: [
            ("(", "regular expression: a group without end at byte 0"),
            ("a)", "regular expression: a ) that closes nothing at byte 1"),
            ("[a", "regular expression: a class without end at byte 0"),
            ("[b-a]", "regular expression: a range whose end is before its start at byte 0"),
            ("*a", "regular expression: a repetition of nothing at byte 0"),
            ("a**", "regular expression: a repetition of a repetition at byte 2"),
            ("a{2,1}", "regular expression: a repeat count whose end is before its start at byte 1"),
            (#"\"#, "regular expression: a backslash at the end at byte 0"),
            (#"\y"#, "regular expression: an unknown escape at byte 0"),
            (#"\x{110000}"#, "regular expression: an escape that names no character at byte 0"),
            ("[[:letters:]]", "regular expression: an unknown class name at byte 1"),
            ("(?z)", "regular expression: an unknown flag at byte 2"),
            ("(?=a)", "regular expression: looking around, (?= at byte 0 is not supported"),
            ("(?<!a)", "regular expression: looking around, (?<! at byte 0 is not supported"),
            (#"(a)\1"#, "regular expression: a reference back to a group at byte 3 is not supported"),
            (#"a\b"#, "regular expression: a word boundary at byte 1 is not supported"),
            (#"\pL"#, "regular expression: a Unicode class at byte 0 is not supported"),
            ("[é]", "regular expression: a character outside ASCII in a class at byte 1 is not supported"),
            ("(?m)a", "regular expression: the flag m at byte 2 is not supported"),
            ("a{1001}", "regular expression: a repeat count at byte 1 is larger than 1000"),
            ("(a{1000}){1000}", "regular expression: larger than 4000 steps: repeat less"),
            ("(((){1000}){1000}){1000}", "regular expression: larger than 4000 steps: repeat less"),
        ])
    func errors(pattern: String, text: String) {
        #expect { try BoundedRegex(pattern) } throws: { "\($0)" == text }
    }

    @Test("have bounds for nesting and length")
    func bounds() {
        let deep = String(repeating: "(", count: 10_000)
        #expect { try BoundedRegex(String(deep.prefix(4000))) } throws: { "\($0)".contains("nest deeper") }
        #expect { try BoundedRegex(deep) } throws: { "\($0)".contains("longer than") }
    }

    /// Patterns that take other machines exponential time; here each octet costs its share, or the test never ends.
    @Test("take no longer for patterns that are made to")
    func pathological() throws {
        let text = String(repeating: "a", count: 2000)
        for pattern in ["(a+)+b", "(a|aa)*b", "(a*)*b", "(.*)*(.*)*x", "a{0,900}b"] {
            #expect(try !BoundedRegex(pattern).matches(text))
        }
    }

    @Test("without a table give the same answers, for texts of bounded length")
    func withoutTable() throws {
        // The classic: which octet was 12 before the end needs 2^12 states.
        let regex = try BoundedRegex("(a|b)*a(a|b){12}")
        #expect(!regex.isTabled)
        #expect(regex.matches("a" + String(repeating: "b", count: 12)))
        #expect(!regex.matches("b" + String(repeating: "b", count: 12)))
        #expect(!regex.matches(String(repeating: "a", count: BoundedRegex.slowTextBytesMax + 1)))
    }
}
