/// One event for the log, and its two spellings.
public struct LogLine: Sendable {
    public enum Value: Hashable, Sendable {
        /// Quoted in text lines.
        case text(String)
        /// Never quoted in text lines: addresses.
        case bare(String)
        case integer(UInt64)
    }
    public enum Format: String, Hashable, Sendable { case plain, json }

    public var microseconds: Int64
    public var level: LogLevel
    public var scope: String
    public var message: String
    /// In the order in which they are written.
    public var fields: [(key: String, value: Value)]

    public init(
        microseconds: Int64 = Timestamp.microsecondsNow(), level: LogLevel, scope: String, message: String,
        fields: [(key: String, value: Value)] = []
    ) {
        self.microseconds = microseconds
        self.level = level
        self.scope = scope
        self.message = message
        self.fields = fields
    }

    /// The line with its end.
    public func bytes(_ format: Format) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(512)
        switch format {
        case .plain: self.appendPlain(to: &bytes)
        case .json: self.appendJSON(to: &bytes)
        }
        bytes.append(UInt8(ascii: "\n"))
        return bytes
    }

    /// `time TAB level TAB scope TAB message TAB k=v k=v`
    private func appendPlain(to bytes: inout [UInt8]) {
        let tab = UInt8(ascii: "\t")
        Timestamp.append(microseconds: self.microseconds, to: &bytes)
        bytes.append(tab)
        bytes += self.level.description.utf8
        bytes.append(tab)
        bytes += self.scope.utf8
        bytes.append(tab)
        Self.append(oneLine: self.message, to: &bytes)
        for (index, field) in self.fields.enumerated() {
            bytes.append(index == 0 ? tab : UInt8(ascii: " "))
            bytes += field.key.utf8
            bytes.append(UInt8(ascii: "="))
            switch field.value {
            case .text(let text): JSONText.append(quoted: text, to: &bytes)
            case .bare(let text): Self.append(oneLine: text, to: &bytes)
            case .integer(let number): bytes += String(number).utf8
            }
        }
    }

    /// Nothing that arrives from outside may start a line of its own.
    private static func append(oneLine text: String, to bytes: inout [UInt8]) {
        for byte in text.utf8 { bytes.append(byte < 0x20 || byte == 0x7f ? UInt8(ascii: " ") : byte) }
    }

    private func appendJSON(to bytes: inout [UInt8]) {
        var json = JSONText()
        json.object { json in
            json.member("level", self.level.description)
            json.member("time", Timestamp.text(microseconds: self.microseconds))
            json.member("scope", self.scope)
            json.member("message", self.message)
            for field in self.fields {
                switch field.value {
                case .text(let text), .bare(let text): json.member(field.key, text)
                case .integer(let number): json.member(field.key, number)
                }
            }
        }
        bytes += json.bytes
    }
}
