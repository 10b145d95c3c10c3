/// Compresses the header blocks of one direction of a connection (RFC 7541).
///
/// The caller says for each field whether it is worth a place in the table: an authority that many streams share is,
/// a trace identifier is not. Blocks must be sent in the order they were made.
package struct HPACKEncoder: ~Copyable {
    package enum Indexing: Hashable, Sendable {
        /// Put it in the table: one octet the next time.
        case table
        /// For values that change with each stream: traceparent, baggage, forwarded.
        case none
        /// For secrets: no hop may put it in a table.
        case never
    }

    /// The largest table kept here, whatever the peer allows; its decoder keeps as much.
    package static let tableBytesMaxDefault = 4_096

    private var table: HPACKDynamicTable
    private let ownTableBytesMax: Int
    /// Size updates that the next block must begin with, the smallest size first.
    private var pendingSmallest: Int?
    private var pendingLast = 0

    /// - Parameter tableBytesMax: 0 switches the dynamic table off.
    package init(tableBytesMax: Int = tableBytesMaxDefault) {
        self.ownTableBytesMax = tableBytesMax
        // The peer assumes 4096 until told otherwise.
        self.table = HPACKDynamicTable(sizeMax: Self.tableBytesMaxDefault)
        if tableBytesMax < Self.tableBytesMaxDefault {
            self.table.resize(to: tableBytesMax)
            self.pendingSmallest = tableBytesMax
            self.pendingLast = tableBytesMax
        }
    }

    package var tableBytes: Int { self.table.size }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE changed; call once for each value it went through
    /// (``HTTP2Settings/Change/headerTableBytes``).
    package mutating func peerTableBytesMaxChanged(to bytes: Int) {
        let next = min(bytes, self.ownTableBytesMax)
        guard next != self.table.sizeMax || self.pendingSmallest != nil else { return }
        self.table.resize(to: next)
        self.pendingSmallest = min(self.pendingSmallest ?? next, next)
        self.pendingLast = next
    }

    /// Begins a block. Must come before its first field.
    package mutating func begin(_ block: inout [UInt8]) {
        guard let smallest = self.pendingSmallest else { return }
        self.pendingSmallest = nil
        HPACKInteger.append(smallest, prefixBits: 5, pattern: 0x20, to: &block)
        if self.pendingLast != smallest {
            HPACKInteger.append(self.pendingLast, prefixBits: 5, pattern: 0x20, to: &block)
        }
    }

    /// Adds a field. The name must be lower-case; nothing is checked here.
    package mutating func append(
        _ name: StaticString, _ value: String, _ indexing: Indexing, to block: inout [UInt8]
    ) {
        let name = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        var value = value
        value.withUTF8 { self.append(name: name, value: UnsafeRawBufferPointer($0), indexing, to: &block) }
    }

    package mutating func append(
        name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, _ indexing: Indexing,
        to block: inout [UInt8]
    ) {
        var nameIndex = 0
        if indexing == .never {
            nameIndex = HPACKStaticTable.shared.find(name: name, value: value)?.index ?? 0
        } else {
            let inStatic = HPACKStaticTable.shared.find(name: name, value: value)
            if let found = inStatic, found.matchesValue {
                HPACKInteger.append(found.index, prefixBits: 7, pattern: 0x80, to: &block)
                return
            }
            nameIndex = inStatic?.index ?? 0
            // A field that is never put in the table is not searched for: its name at most, if not in the static one.
            if indexing == .table || nameIndex == 0, let found = self.table.find(name: name, value: value) {
                let index = found.index + HPACKStaticTable.count + 1
                if found.matchesValue {
                    HPACKInteger.append(index, prefixBits: 7, pattern: 0x80, to: &block)
                    return
                }
                if nameIndex == 0 { nameIndex = index }
            }
        }
        // A field that would push out more than half of the table costs more than it gains.
        let size = name.count + value.count + HPACKDynamicTable.entryOverhead
        let isIndexing = indexing == .table && size * 2 <= self.table.sizeMax
        switch indexing {
        case _ where isIndexing: HPACKInteger.append(nameIndex, prefixBits: 6, pattern: 0x40, to: &block)
        case .never: HPACKInteger.append(nameIndex, prefixBits: 4, pattern: 0x10, to: &block)
        case .table, .none: HPACKInteger.append(nameIndex, prefixBits: 4, pattern: 0x00, to: &block)
        }
        if nameIndex == 0 { Self.append(string: name, to: &block) }
        Self.append(string: value, to: &block)
        if isIndexing { self.table.insert(name: name, value: value) }
    }

    /// A whole list as one block; sensitive fields are never indexed.
    ///
    /// - Parameter indexing: for the fields that are not sensitive.
    package mutating func encode(_ list: HTTP2HeaderList, indexing: Indexing = .table) -> [UInt8] {
        var block: [UInt8] = []
        block.reserveCapacity(list.bytes.count)
        self.begin(&block)
        list.bytes.withUnsafeBytes { bytes in
            for field in list.fields {
                let from = field.offset + field.nameCount
                self.append(
                    name: UnsafeRawBufferPointer(rebasing: bytes[field.offset..<from]),
                    value: UnsafeRawBufferPointer(rebasing: bytes[from..<from + field.valueCount]),
                    field.isSensitive ? .never : indexing, to: &block)
            }
        }
        return block
    }

    private static func append(string: UnsafeRawBufferPointer, to block: inout [UInt8]) {
        let coded = HPACKHuffman.shared.encodedCount(string)
        if coded < string.count {
            HPACKInteger.append(coded, prefixBits: 7, pattern: 0x80, to: &block)
            HPACKHuffman.shared.encode(string, into: &block)
        } else {
            HPACKInteger.append(string.count, prefixBits: 7, pattern: 0x00, to: &block)
            block.append(contentsOf: string)
        }
    }
}
