/// The protobuf wire format (protobuf.dev, "Encoding"), as much of it as messages of 1 KiB need: variable-length integers
/// and length-delimited fields. Fields of other types and unknown numbers are skipped, as the format demands.
struct ProtobufFields {
    struct Malformed: Error {}

    enum Value {
        case number(UInt64)
        case bytes(ArraySlice<UInt8>)
        /// Fixed 32- and 64-bit fields, which no message here has.
        case other
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { self.rest = bytes }

    /// The next field, or nil at the end.
    mutating func next() throws(Malformed) -> (number: UInt64, value: Value)? {
        if self.rest.isEmpty { return nil }
        let key = try self.varint()
        let number = key >> 3
        if number == 0 { throw Malformed() }
        switch key & 7 {
        case 0: return (number, .number(try self.varint()))
        case 1: return (number, try self.skip(8))
        case 2:
            let count = try self.varint()
            guard count <= UInt64(self.rest.count) else { throw Malformed() }
            defer { self.rest = self.rest.dropFirst(Int(count)) }
            return (number, .bytes(self.rest.prefix(Int(count))))
        case 5: return (number, try self.skip(4))
        default: throw Malformed()
        }
    }

    private mutating func skip(_ count: Int) throws(Malformed) -> Value {
        guard self.rest.count >= count else { throw Malformed() }
        self.rest = self.rest.dropFirst(count)
        return .other
    }

    private mutating func varint() throws(Malformed) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = self.rest.popFirst() else { throw Malformed() }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw Malformed()
    }
}

extension [UInt8] {
    /// A length-delimited field, also when it is empty: in a oneof its presence is the message.
    mutating func appendField(_ number: UInt8, _ content: some Collection<UInt8>) {
        self.append(number << 3 | 2)
        var count = content.count
        while count >= 0x80 {
            self.append(UInt8(count & 0x7f | 0x80))
            count >>= 7
        }
        self.append(UInt8(count))
        self += content
    }

    /// A string field; an empty one is left out, as proto3 does.
    mutating func appendField(_ number: UInt8, _ text: String) {
        if !text.isEmpty { self.appendField(number, text.utf8) }
    }
}
