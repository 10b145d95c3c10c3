/// Why a text is no JSON: what was wrong, and where.
public struct JSONError: Error, Hashable, CustomStringConvertible {
    public let reason: String
    /// In bytes from the start.
    public let offset: Int
    public var description: String { "invalid JSON: \(self.reason) at byte \(self.offset)" }
}

extension JSONValue {
    /// Reads one JSON document (RFC 8259). Duplicate keys: the last wins.
    /// - Throws: ``JSONError``; also when values nest deeper than ``JSONParser/depthMax``.
    public init(parsing text: String) throws(JSONError) {
        try self.init(parsing: Array(text.utf8))
    }

    public init(parsing bytes: [UInt8]) throws(JSONError) {
        var parser = JSONParser(bytes)
        self = try parser.document()
    }
}

/// A recursive-descent reader over a byte array; the only state is the position.
struct JSONParser {
    /// A CRD schema nests about 40 deep; the bound keeps a hostile document off our stack.
    static let depthMax = 200

    private let bytes: [UInt8]
    private var at = 0
    private var depth = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() throws(JSONError) -> JSONValue {
        let value = try self.value()
        self.skipSpace()
        if self.at < self.bytes.count { throw self.error("unexpected text after the value") }
        return value
    }

    private func error(_ reason: String) -> JSONError { JSONError(reason: reason, offset: self.at) }

    private var current: UInt8? { self.at < self.bytes.count ? self.bytes[self.at] : nil }

    private mutating func skipSpace() {
        while let byte = self.current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { self.at += 1 }
    }

    private mutating func value() throws(JSONError) -> JSONValue {
        self.skipSpace()
        guard let byte = self.current else { throw self.error("the text ends where a value should be") }
        switch byte {
        case UInt8(ascii: "{"): return try self.object()
        case UInt8(ascii: "["): return try self.array()
        case UInt8(ascii: "\""): return .string(try self.string())
        case UInt8(ascii: "t"): return try self.literal("true", .bool(true))
        case UInt8(ascii: "f"): return try self.literal("false", .bool(false))
        case UInt8(ascii: "n"): return try self.literal("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try self.number()
        default: throw self.error("unexpected character")
        }
    }

    private mutating func literal(_ text: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let wanted = text.description.utf8
        guard self.bytes.count - self.at >= wanted.count,
            self.bytes[self.at..<self.at + wanted.count].elementsEqual(wanted)
        else { throw self.error("unexpected word") }
        self.at += wanted.count
        return value
    }

    private mutating func enter() throws(JSONError) {
        self.depth += 1
        if self.depth > Self.depthMax { throw self.error("values nest deeper than \(Self.depthMax)") }
    }

    private mutating func object() throws(JSONError) -> JSONValue {
        try self.enter()
        self.at += 1
        var members: [String: JSONValue] = [:]
        self.skipSpace()
        if self.current == UInt8(ascii: "}") {
            self.at += 1
            self.depth -= 1
            return .object([:])
        }
        while true {
            self.skipSpace()
            guard self.current == UInt8(ascii: "\"") else { throw self.error("a member name should be here") }
            let key = try self.string()
            self.skipSpace()
            guard self.current == UInt8(ascii: ":") else { throw self.error("a colon should be here") }
            self.at += 1
            members[key] = try self.value()
            self.skipSpace()
            guard let byte = self.current else { throw self.error("the object does not end") }
            self.at += 1
            if byte == UInt8(ascii: "}") { break }
            if byte != UInt8(ascii: ",") { throw self.error("a comma or } should be here") }
        }
        self.depth -= 1
        return .object(members)
    }

    private mutating func array() throws(JSONError) -> JSONValue {
        try self.enter()
        self.at += 1
        var elements: [JSONValue] = []
        self.skipSpace()
        if self.current == UInt8(ascii: "]") {
            self.at += 1
            self.depth -= 1
            return .array([])
        }
        while true {
            elements.append(try self.value())
            self.skipSpace()
            guard let byte = self.current else { throw self.error("the array does not end") }
            self.at += 1
            if byte == UInt8(ascii: "]") { break }
            if byte != UInt8(ascii: ",") { throw self.error("a comma or ] should be here") }
        }
        self.depth -= 1
        return .array(elements)
    }

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = self.at
        var isInteger = true
        while let byte = self.current {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"): break
            case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"): isInteger = false
            default:
                return try self.number(self.bytes[start..<self.at], isInteger)
            }
            self.at += 1
        }
        return try self.number(self.bytes[start..<self.at], isInteger)
    }

    private func number(_ digits: ArraySlice<UInt8>, _ isInteger: Bool) throws(JSONError) -> JSONValue {
        let text = String(decoding: digits, as: UTF8.self)
        let body = text.hasPrefix("-") ? text.dropFirst() : text[...]
        guard let first = body.utf8.first, (48...57).contains(first),
            body.utf8.last.map({ (48...57).contains($0) }) == true,
            !(body.utf8.count > 1 && first == 48 && (48...57).contains(body.utf8.dropFirst().first!))
        else { throw self.error("malformed number \(text)") }
        if isInteger, let value = Int64(text) { return .int(value) }
        guard let value = Double(text), value.isFinite else { throw self.error("malformed number \(text)") }
        return .double(value)
    }

    private mutating func string() throws(JSONError) -> String {
        self.at += 1
        let start = self.at
        // Most strings have no escape: find the end and copy once.
        while let byte = self.current, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
            self.at += 1
        }
        if self.current == UInt8(ascii: "\"") {
            defer { self.at += 1 }
            return String(decoding: self.bytes[start..<self.at], as: UTF8.self)
        }
        var text = Array(self.bytes[start..<self.at])
        while true {
            guard let byte = self.current else { throw self.error("the string does not end") }
            self.at += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): try self.escape(into: &text)
            case 0..<0x20: throw self.error("control character in a string")
            default: text.append(byte)
            }
        }
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
        guard let byte = self.current else { throw self.error("the string does not end") }
        self.at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0c)
        case UInt8(ascii: "n"): text.append(0x0a)
        case UInt8(ascii: "r"): text.append(0x0d)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var code = UInt32(try self.hex4())
            if (0xd800..<0xdc00).contains(code) {
                // A high surrogate wants its partner; alone it becomes U+FFFD, as Go's decoder does.
                if self.at + 1 < self.bytes.count, self.bytes[self.at] == UInt8(ascii: "\\"),
                    self.bytes[self.at + 1] == UInt8(ascii: "u")
                {
                    let back = self.at
                    self.at += 2
                    let low = UInt32(try self.hex4())
                    if (0xdc00..<0xe000).contains(low) {
                        code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
                    } else {
                        self.at = back
                    }
                }
            }
            text += Array(String(Unicode.Scalar(code) ?? "\u{fffd}").utf8)
        default: throw self.error("unknown escape")
        }
    }

    private mutating func hex4() throws(JSONError) -> UInt16 {
        guard self.at + 4 <= self.bytes.count else { throw self.error("the escape does not end") }
        var value: UInt16 = 0
        for byte in self.bytes[self.at..<self.at + 4] {
            let digit: UInt8
            switch byte {
            case 48...57: digit = byte - 48
            case 65...70: digit = byte - 55
            case 97...102: digit = byte - 87
            default: throw self.error("a \\u escape wants four hexadecimal digits")
            }
            value = value << 4 | UInt16(digit)
        }
        self.at += 4
        return value
    }
}
