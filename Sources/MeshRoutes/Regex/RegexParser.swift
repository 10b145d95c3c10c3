/// What a pattern says.
indirect enum RegexNode: Hashable, Sendable {
    case empty
    case set(ByteSet)
    case sequence([RegexNode])
    case choice([RegexNode])
    case repetition(RegexNode, least: Int, most: Int?)
    case startOfText
    case endOfText
}

/// Reads RE2's syntax (https://github.com/google/re2/wiki/Syntax), as far as it can be matched without looking back:
/// literals, `.`, classes with POSIX names and Perl's `\d \s \w`, groups with or without a name, alternation, repetition
/// greedy or lazy, `^ $ \A \z`, `\Q…\E`, and the flags `i`, `s` and `U`.
///
/// Characters outside ASCII are their UTF-8 octets; they may stand alone, not in a class.
struct RegexParser {
    static let depthMax = 50
    /// RE2's bound.
    static let repeatMax = 1000

    private let pattern: [UInt8]
    private var at = 0
    private var depth = 0
    private var ignoresCase = false
    private var dotMatchesNewline = false

    init(_ pattern: [UInt8]) { self.pattern = pattern }

    mutating func parse() throws(RegexError) -> RegexNode {
        let node = try self.choice()
        if self.at < self.pattern.count { throw .malformed("a ) that closes nothing", offset: self.at) }
        return node
    }

    private var current: UInt8? { self.at < self.pattern.count ? self.pattern[self.at] : nil }

    private func follows(_ text: String) -> Bool { self.pattern[self.at...].starts(with: text.utf8) }

    private mutating func take(_ text: String) -> Bool {
        guard self.follows(text) else { return false }
        self.at += text.utf8.count
        return true
    }

    private mutating func choice() throws(RegexError) -> RegexNode {
        self.depth += 1
        defer { self.depth -= 1 }
        if self.depth > Self.depthMax { throw .tooLarge("groups nest deeper than \(Self.depthMax)") }
        var branches = [try self.sequence()]
        while self.current == UInt8(ascii: "|") {
            self.at += 1
            branches.append(try self.sequence())
        }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    private mutating func sequence() throws(RegexError) -> RegexNode {
        var nodes: [RegexNode] = []
        while let byte = self.current, byte != UInt8(ascii: "|"), byte != UInt8(ascii: ")") {
            if self.take("\\Q") {
                while self.at < self.pattern.count, !self.follows("\\E") {
                    nodes.append(self.literal(self.pattern[self.at]))
                    self.at += 1
                }
                // As for RE2, a repetition behind the quotation is of its last octet.
                if self.take("\\E"), let last = nodes.popLast() { nodes.append(try self.repeated(last)) }
                continue
            }
            guard let atom = try self.atom() else { continue }
            nodes.append(try self.repeated(atom))
        }
        return nodes.count == 1 ? nodes[0] : nodes.isEmpty ? .empty : .sequence(nodes)
    }

    private func literal(_ byte: UInt8) -> RegexNode {
        let set = ByteSet(byte)
        return .set(self.ignoresCase ? set.ignoringCase : set)
    }

    /// nil: something without width of its own, a change of flags.
    private mutating func atom() throws(RegexError) -> RegexNode? {
        let start = self.at
        let byte = self.pattern[start]
        switch byte {
        case UInt8(ascii: "("): return try self.group()
        case UInt8(ascii: "["): return .set(try self.bracket())
        case UInt8(ascii: "\\"): return try self.escape()
        case UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"):
            throw .malformed("a repetition of nothing", offset: start)
        case UInt8(ascii: "."):
            self.at += 1
            return .set(self.dotMatchesNewline ? .all : ~ByteSet(UInt8(ascii: "\n")))
        case UInt8(ascii: "^"):
            self.at += 1
            return .startOfText
        case UInt8(ascii: "$"):
            self.at += 1
            return .endOfText
        case 0x80...:
            // All octets of one character, so that a repetition behind it takes the whole.
            var octets = [self.literal(byte)]
            self.at += 1
            while let next = self.current, next & 0xC0 == 0x80 {
                octets.append(self.literal(next))
                self.at += 1
            }
            return octets.count == 1 ? octets[0] : .sequence(octets)
        default:
            self.at += 1
            return self.literal(byte)
        }
    }

    private mutating func repeated(_ atom: RegexNode) throws(RegexError) -> RegexNode {
        guard let byte = self.current else { return atom }
        let bounds: (least: Int, most: Int?)
        switch byte {
        case UInt8(ascii: "*"): bounds = (0, nil)
        case UInt8(ascii: "+"): bounds = (1, nil)
        case UInt8(ascii: "?"): bounds = (0, 1)
        case UInt8(ascii: "{"):
            guard let counted = try self.counted() else { return atom }
            bounds = counted
        default: return atom
        }
        if byte != UInt8(ascii: "{") { self.at += 1 }
        // Lazy or greedy: a full match is one or it is none.
        if self.current == UInt8(ascii: "?") { self.at += 1 }
        if let next = self.current, next == UInt8(ascii: "*") || next == UInt8(ascii: "+") || next == UInt8(ascii: "?")
        {
            throw .malformed("a repetition of a repetition", offset: self.at)
        }
        return .repetition(atom, least: bounds.least, most: bounds.most)
    }

    /// `{n}`, `{n,}` or `{n,m}`; nil when the brace is only a brace, as for RE2.
    private mutating func counted() throws(RegexError) -> (least: Int, most: Int?)? {
        let start = self.at
        var position = self.at + 1
        func number() -> Int? {
            var value: Int?
            while position < self.pattern.count, (48...57).contains(self.pattern[position]) {
                value = min(1_000_000, (value ?? 0) * 10 + Int(self.pattern[position]) - 48)
                position += 1
            }
            return value
        }
        guard let least = number(), position < self.pattern.count else { return nil }
        var most: Int? = least
        if self.pattern[position] == UInt8(ascii: ",") {
            position += 1
            most = number()
        }
        guard position < self.pattern.count, self.pattern[position] == UInt8(ascii: "}") else { return nil }
        if least > Self.repeatMax || most ?? 0 > Self.repeatMax {
            throw .tooLarge("a repeat count at byte \(start) is larger than \(Self.repeatMax)")
        }
        if let most, most < least { throw .malformed("a repeat count whose end is before its start", offset: start) }
        self.at = position + 1
        return (least, most)
    }

    private mutating func group() throws(RegexError) -> RegexNode? {
        let start = self.at
        let before = (self.ignoresCase, self.dotMatchesNewline)
        self.at += 1
        if self.take("?") {
            for look in ["=", "!", "<=", "<!"] where self.follows(look) {
                throw .unsupported("looking around, (?\(look)", offset: start)
            }
            if self.take("P<") || self.take("<") {
                guard let close = self.pattern[self.at...].firstIndex(of: UInt8(ascii: ">")), close > self.at else {
                    throw .malformed("a group name without end", offset: start)
                }
                self.at = close + 1
            } else if try self.flags(start) {
                // `(?i)`: for what follows in the group around it.
                return nil
            }
        }
        let inner = try self.choice()
        guard self.current == UInt8(ascii: ")") else { throw .malformed("a group without end", offset: start) }
        self.at += 1
        (self.ignoresCase, self.dotMatchesNewline) = before
        return inner
    }

    /// After `(?`. True when the flags stand alone, `(?i)`, false when a group follows, `(?i:`.
    private mutating func flags(_ start: Int) throws(RegexError) -> Bool {
        var value = true
        while let byte = self.current {
            self.at += 1
            switch byte {
            case UInt8(ascii: ")"): return true
            case UInt8(ascii: ":"): return false
            case UInt8(ascii: "-"): value = false
            case UInt8(ascii: "i"): self.ignoresCase = value
            case UInt8(ascii: "s"): self.dotMatchesNewline = value
            case UInt8(ascii: "U"): break
            case UInt8(ascii: "m"): if value { throw .unsupported("the flag m", offset: self.at - 1) }
            default: throw .malformed("an unknown flag", offset: self.at - 1)
            }
        }
        throw .malformed("a group without end", offset: start)
    }

    // MARK: Escapes and classes

    private static let digits = ByteSet(UInt8(ascii: "0")...UInt8(ascii: "9"))
    private static let space = ByteSet("\t\n\u{c}\r ")
    private static let word: ByteSet = {
        var set = Self.digits
        set.formUnion(ByteSet(UInt8(ascii: "a")...UInt8(ascii: "z")).ignoringCase)
        set.insert(UInt8(ascii: "_"))
        return set
    }()

    private mutating func escape() throws(RegexError) -> RegexNode {
        let start = self.at
        guard start + 1 < self.pattern.count else { throw .malformed("a backslash at the end", offset: start) }
        switch self.pattern[start + 1] {
        case UInt8(ascii: "A"):
            self.at += 2
            return .startOfText
        case UInt8(ascii: "z"):
            self.at += 2
            return .endOfText
        case UInt8(ascii: "b"), UInt8(ascii: "B"): throw .unsupported("a word boundary", offset: start)
        case UInt8(ascii: "1")...UInt8(ascii: "9"), UInt8(ascii: "k"), UInt8(ascii: "g"):
            throw .unsupported("a reference back to a group", offset: start)
        default:
            if let set = try self.perlClass() { return .set(self.ignoresCase ? set.ignoringCase : set) }
            let octets = Array(String(try self.escapedCharacter()).utf8).map(self.literal)
            return octets.count == 1 ? octets[0] : .sequence(octets)
        }
    }

    /// `\d` and its like.
    private mutating func perlClass() throws(RegexError) -> ByteSet? {
        guard self.at + 1 < self.pattern.count, self.current == UInt8(ascii: "\\") else { return nil }
        let set: ByteSet
        switch self.pattern[self.at + 1] {
        case UInt8(ascii: "d"): set = Self.digits
        case UInt8(ascii: "D"): set = ~Self.digits
        case UInt8(ascii: "s"): set = Self.space
        case UInt8(ascii: "S"): set = ~Self.space
        case UInt8(ascii: "w"): set = Self.word
        case UInt8(ascii: "W"): set = ~Self.word
        case UInt8(ascii: "p"), UInt8(ascii: "P"): throw .unsupported("a Unicode class", offset: self.at)
        case UInt8(ascii: "C"): set = .all
        default: return nil
        }
        self.at += 2
        return set
    }

    private mutating func escapedCharacter() throws(RegexError) -> Unicode.Scalar {
        let start = self.at
        guard start + 1 < self.pattern.count else { throw .malformed("a backslash at the end", offset: start) }
        let byte = self.pattern[start + 1]
        self.at += 2
        switch byte {
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "v"): return "\u{b}"
        case UInt8(ascii: "a"): return "\u{7}"
        case UInt8(ascii: "x"): return try self.hexadecimal(start)
        case 48...57, 65...90, 97...122: throw .malformed("an unknown escape", offset: start)
        case 0x80...: throw .malformed("an escape outside ASCII", offset: start)
        default: return Unicode.Scalar(byte)
        }
    }

    /// `\x7F` or `\x{10FFFF}`.
    private mutating func hexadecimal(_ start: Int) throws(RegexError) -> Unicode.Scalar {
        var digits: ArraySlice<UInt8>
        if self.current == UInt8(ascii: "{") {
            guard let close = self.pattern[self.at...].firstIndex(of: UInt8(ascii: "}")) else {
                throw .malformed("an escape without end", offset: start)
            }
            digits = self.pattern[self.at + 1..<close]
            self.at = close + 1
        } else {
            digits = self.pattern[self.at...].prefix(2)
            self.at += digits.count
            if digits.count < 2 { throw .malformed("an escape without end", offset: start) }
        }
        guard (1...6).contains(digits.count), digits.first != UInt8(ascii: "+"), digits.first != UInt8(ascii: "-"),
            let code = UInt32(String(decoding: digits, as: UTF8.self), radix: 16), let scalar = Unicode.Scalar(code)
        else { throw .malformed("an escape that names no character", offset: start) }
        return scalar
    }

    private static let posix: [(name: String, set: ByteSet)] = {
        let upper = ByteSet(UInt8(ascii: "A")...UInt8(ascii: "Z"))
        let lower = ByteSet(UInt8(ascii: "a")...UInt8(ascii: "z"))
        var alnum = upper.ignoringCase
        alnum.formUnion(Self.digits)
        var xdigit = ByteSet("abcdef").ignoringCase
        xdigit.formUnion(Self.digits)
        var space = Self.space
        space.insert(0x0B)
        var punct = ByteSet()
        for byte in UInt8(0x21)...0x7E where !alnum.contains(byte) { punct.insert(byte) }
        var cntrl = ByteSet(UInt8(0)...0x1F)
        cntrl.insert(0x7F)
        return [
            ("alnum", alnum), ("alpha", upper.ignoringCase), ("ascii", ByteSet(UInt8(0)...0x7F)),
            ("blank", ByteSet("\t ")), ("cntrl", cntrl), ("digit", Self.digits), ("graph", ByteSet(UInt8(0x21)...0x7E)),
            ("lower", lower), ("print", ByteSet(UInt8(0x20)...0x7E)), ("punct", punct), ("space", space),
            ("upper", upper), ("word", Self.word), ("xdigit", xdigit),
        ]
    }()

    private mutating func bracket() throws(RegexError) -> ByteSet {
        let start = self.at
        self.at += 1
        let isNegated = self.take("^")
        var set = ByteSet()
        var isFirst = true
        while let byte = self.current, byte != UInt8(ascii: "]") || isFirst {
            isFirst = false
            if self.follows("[:") {
                set.formUnion(try self.posixClass())
                continue
            }
            if let perl = try self.perlClass() {
                set.formUnion(perl)
                continue
            }
            let from = try self.member()
            var to = from
            if self.current == UInt8(ascii: "-"), self.at + 1 < self.pattern.count,
                self.pattern[self.at + 1] != UInt8(ascii: "]")
            {
                self.at += 1
                to = try self.member()
            }
            if to < from { throw .malformed("a range whose end is before its start", offset: start) }
            set.formUnion(ByteSet(from...to))
        }
        guard self.current != nil else { throw .malformed("a class without end", offset: start) }
        self.at += 1
        if self.ignoresCase { set = set.ignoringCase }
        return isNegated ? ~set : set
    }

    private mutating func member() throws(RegexError) -> UInt8 {
        let start = self.at
        guard let byte = self.current else { throw .malformed("a class without end", offset: start) }
        guard byte < 0x80 else { throw .unsupported("a character outside ASCII in a class", offset: start) }
        guard byte == UInt8(ascii: "\\") else {
            self.at += 1
            return byte
        }
        let scalar = try self.escapedCharacter()
        guard scalar.isASCII else { throw .unsupported("a character outside ASCII in a class", offset: start) }
        return UInt8(scalar.value)
    }

    /// `[:alpha:]` or `[:^alpha:]`, inside brackets.
    private mutating func posixClass() throws(RegexError) -> ByteSet {
        let start = self.at
        self.at += 2
        let isNegated = self.take("^")
        for (name, set) in Self.posix where self.take(name + ":]") { return isNegated ? ~set : set }
        throw .malformed("an unknown class name", offset: start)
    }
}
