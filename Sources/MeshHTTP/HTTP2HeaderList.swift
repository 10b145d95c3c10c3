/// The fields of one header section, in order: two allocations however many fields there are.
///
/// Names and values are octets as the peer sent them; nothing is trimmed, lower-cased or checked. Use
/// ``HTTP2RequestHead``, ``HTTP2ResponseHead`` or ``HTTP2FieldRules`` before trusting anything.
package struct HTTP2HeaderList: Sendable {
    struct Field: Sendable {
        var offset, nameCount, valueCount: Int
        /// Must not enter a compression table on any hop (RFC 7541 section 6.2.3).
        var isSensitive: Bool
    }

    var bytes: [UInt8] = []
    var fields: [Field] = []
    /// The octets as SETTINGS_MAX_HEADER_LIST_SIZE counts them: names, values, and 32 for each field.
    package internal(set) var listBytes = 0
    /// The list was larger than the decoder's limit and lacks fields: answer 431 or reset, never serve.
    package internal(set) var isTruncated = false

    package init() {}

    package var count: Int { self.fields.count }
    package var isEmpty: Bool { self.fields.isEmpty }

    /// Empties the list and keeps its memory for the next one.
    package mutating func removeAll() {
        self.bytes.removeAll(keepingCapacity: true)
        self.fields.removeAll(keepingCapacity: true)
        self.listBytes = 0
        self.isTruncated = false
    }

    package mutating func append(_ name: String, _ value: String, sensitive: Bool = false) {
        let offset = self.bytes.count
        self.bytes.append(contentsOf: name.utf8)
        let nameCount = self.bytes.count - offset
        self.bytes.append(contentsOf: value.utf8)
        self.appended(offset, nameCount, self.bytes.count - offset - nameCount, sensitive)
    }

    /// Takes the octets at the end of ``bytes`` for a field.
    @inline(__always)
    mutating func appended(_ offset: Int, _ nameCount: Int, _ valueCount: Int, _ sensitive: Bool) {
        self.fields.append(
            Field(offset: offset, nameCount: nameCount, valueCount: valueCount, isSensitive: sensitive))
        self.listBytes += nameCount + valueCount + HPACKDynamicTable.entryOverhead
    }

    // MARK: Reading

    package func nameBytes(_ index: Int) -> ArraySlice<UInt8> {
        let field = self.fields[index]
        return self.bytes[field.offset..<field.offset + field.nameCount]
    }

    package func valueBytes(_ index: Int) -> ArraySlice<UInt8> {
        let field = self.fields[index]
        let from = field.offset + field.nameCount
        return self.bytes[from..<from + field.valueCount]
    }

    /// Octets that are no UTF-8 become U+FFFD.
    package func name(_ index: Int) -> String { String(decoding: self.nameBytes(index), as: UTF8.self) }
    /// Octets that are no UTF-8 become U+FFFD.
    package func value(_ index: Int) -> String { String(decoding: self.valueBytes(index), as: UTF8.self) }
    package func isSensitive(_ index: Int) -> Bool { self.fields[index].isSensitive }

    /// The index of the first field of that name, which must be lower-case as it always is on the wire.
    package func firstIndex(of name: StaticString) -> Int? {
        for index in self.fields.indices where self.hasName(index, name) { return index }
        return nil
    }

    package func hasName(_ index: Int, _ name: StaticString) -> Bool {
        let field = self.fields[index]
        guard field.nameCount == name.utf8CodeUnitCount else { return false }
        let wanted = UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        return self.bytes[field.offset..<field.offset + field.nameCount].elementsEqual(wanted)
    }

    /// The first value of that name.
    package subscript(name: StaticString) -> String? { self.firstIndex(of: name).map(self.value) }

    /// Every value of that name, in order.
    package func values(of name: StaticString) -> [String] {
        self.fields.indices.filter { self.hasName($0, name) }.map(self.value)
    }
}

extension HTTP2HeaderList: ExpressibleByDictionaryLiteral, Equatable, CustomStringConvertible {
    /// Order and repeated names are kept.
    package init(dictionaryLiteral elements: (String, String)...) {
        self.init()
        for (name, value) in elements { self.append(name, value) }
    }

    /// Equal fields in equal order.
    package static func == (left: Self, right: Self) -> Bool {
        left.count == right.count && left.isTruncated == right.isTruncated
            && left.fields.indices.allSatisfy {
                left.nameBytes($0) == right.nameBytes($0) && left.valueBytes($0) == right.valueBytes($0)
                    && left.isSensitive($0) == right.isSensitive($0)
            }
    }

    /// For tests and debug logs; sensitive values are hidden.
    package var description: String {
        self.fields.indices
            .map { "\(self.name($0)): \(self.isSensitive($0) ? "(sensitive)" : self.value($0))" }
            .joined(separator: "\n")
    }
}
