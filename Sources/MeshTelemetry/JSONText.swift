/// Writes JSON piece by piece, in the order in which it is told: dumps and log lines have a fixed key order.
///
///     var json = JSONText()
///     json.object { $0.member("name", "a"); $0.array("ports") { $0.element(80) } }
public struct JSONText: Sendable {
    public private(set) var bytes: [UInt8] = []
    /// Whether the next member or element needs a comma before it.
    private var needsComma = false

    public init() {}

    public var text: String { String(decoding: self.bytes, as: UTF8.self) }

    // MARK: Containers

    /// The whole document, or an element of an array.
    public mutating func object(_ body: (inout Self) -> Void) {
        self.container("{", "}", body)
    }

    public mutating func object(_ key: String, _ body: (inout Self) -> Void) {
        self.key(key)
        self.container("{", "}", body)
    }

    public mutating func array(_ body: (inout Self) -> Void) {
        self.container("[", "]", body)
    }

    public mutating func array(_ key: String, _ body: (inout Self) -> Void) {
        self.key(key)
        self.container("[", "]", body)
    }

    // MARK: Members of an object

    public mutating func member(_ key: String, _ value: String) {
        self.key(key)
        self.element(value)
    }

    public mutating func member(_ key: String, _ value: some BinaryInteger) {
        self.key(key)
        self.element(value)
    }

    public mutating func member(_ key: String, _ value: Bool) {
        self.key(key)
        self.element(value)
    }

    public mutating func null(_ key: String) {
        self.key(key)
        self.raw("null")
    }

    public mutating func member(_ key: String, _ values: some Sequence<String>) {
        self.array(key) { json in for value in values { json.element(value) } }
    }

    // MARK: Elements of an array

    public mutating func element(_ value: String) {
        self.separate()
        Self.append(quoted: value, to: &self.bytes)
        self.needsComma = true
    }

    public mutating func element(_ value: some BinaryInteger) { self.raw(String(value)) }
    public mutating func element(_ value: Bool) { self.raw(value ? "true" : "false") }

    // MARK: Pieces

    private mutating func container(_ open: Unicode.Scalar, _ close: Unicode.Scalar, _ body: (inout Self) -> Void) {
        self.separate()
        self.bytes.append(UInt8(ascii: open))
        self.needsComma = false
        body(&self)
        self.bytes.append(UInt8(ascii: close))
        self.needsComma = true
    }

    private mutating func key(_ key: String) {
        self.separate()
        Self.append(quoted: key, to: &self.bytes)
        self.bytes.append(UInt8(ascii: ":"))
        self.needsComma = false
    }

    private mutating func raw(_ text: String) {
        self.separate()
        self.bytes += text.utf8
        self.needsComma = true
    }

    private mutating func separate() {
        if self.needsComma { self.bytes.append(UInt8(ascii: ",")) }
        self.needsComma = false
    }

    /// RFC 8259, section 7: quotes, backslash and everything below space are escaped; the rest is UTF-8 as it is.
    package static func append(quoted text: String, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): bytes += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\\"): bytes += [byte, byte]
            case UInt8(ascii: "\n"): bytes += "\\n".utf8
            case UInt8(ascii: "\t"): bytes += "\\t".utf8
            case UInt8(ascii: "\r"): bytes += "\\r".utf8
            case 0..<0x20, 0x7f:
                bytes += "\\u00".utf8
                let digits = Array("0123456789abcdef".utf8)
                bytes += [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
