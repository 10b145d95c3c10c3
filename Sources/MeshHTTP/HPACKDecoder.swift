/// Decompresses the header blocks of one direction of a connection (RFC 7541).
///
/// Every block of the connection must pass through here in order, wanted or not. Memory is bounded by the table limit
/// and the list limit; a list over its limit is cut and marked while the tables stay right, so that only its stream
/// suffers. Steady state allocates nothing when the caller reuses its list.
package struct HPACKDecoder: ~Copyable {
    package static let tableBytesMaxDefault = 4_096
    package static let listBytesMaxDefault = 64 * 1024
    /// Past so many times the list limit a block is an attack and costs the connection.
    private static let bombFactor = 4

    private var table: HPACKDynamicTable
    /// What we announced as SETTINGS_HEADER_TABLE_SIZE.
    private var tableBytesMax: Int
    private var mustConfirmTable = false
    package let listBytesMax: Int

    /// - Parameters:
    ///   - tableBytesMax: what our SETTINGS_HEADER_TABLE_SIZE says.
    ///   - listBytesMax: names, values and 32 for each field; what our SETTINGS_MAX_HEADER_LIST_SIZE says.
    package init(tableBytesMax: Int = tableBytesMaxDefault, listBytesMax: Int = listBytesMaxDefault) {
        self.tableBytesMax = tableBytesMax
        // The table begins with the default size, whatever was announced since (RFC 7541 section 4.2).
        self.table = HPACKDynamicTable(sizeMax: min(tableBytesMax, Self.tableBytesMaxDefault))
        self.listBytesMax = listBytesMax
    }

    /// Octets of the dynamic table as RFC 7541 counts them.
    package var tableBytes: Int { self.table.size }
    package var tableCount: Int { self.table.count }

    /// The peer acknowledged our SETTINGS with this SETTINGS_HEADER_TABLE_SIZE.
    package mutating func tableLimitAcknowledged(_ bytes: Int) {
        self.mustConfirmTable = bytes < self.table.sizeMax
        self.tableBytesMax = bytes
    }

    package mutating func decode(_ block: [UInt8]) throws(HPACKError) -> HTTP2HeaderList {
        var list = HTTP2HeaderList()
        try self.decode(block, into: &list)
        return list
    }

    package mutating func decode(_ block: [UInt8], into list: inout HTTP2HeaderList) throws(HPACKError) {
        let result: Result<Void, HPACKError> = block.withUnsafeBytes { bytes in
            do throws(HPACKError) {
                try self.decode(bytes, into: &list)
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
    }

    /// Replaces what `list` holds. After an error the decoder must not be used again.
    package mutating func decode(
        _ block: UnsafeRawBufferPointer, into list: inout HTTP2HeaderList
    ) throws(HPACKError) {
        list.removeAll()
        var at = 0
        var seenField = false
        /// What the whole list would be, truncated or not.
        var unfolded = 0
        while at < block.count {
            let first = block[at]
            if first & 0xe0 == 0x20 {
                guard !seenField else { throw .lateTableSizeUpdate }
                let size = try HPACKInteger.read(block, &at, prefixBits: 5)
                guard size <= self.tableBytesMax else { throw .tableTooLarge(size, bytesMax: self.tableBytesMax) }
                self.table.resize(to: size)
                self.mustConfirmTable = false
                continue
            }
            guard !self.mustConfirmTable else { throw .missingTableSizeUpdate }
            seenField = true
            let offset = list.bytes.count
            var nameCount = 0
            var valueCount = 0
            if first & 0x80 != 0 {
                let index = try HPACKInteger.read(block, &at, prefixBits: 7)
                (nameCount, valueCount) = try self.copy(index, withValue: true, into: &list.bytes)
            } else {
                let isIndexing = first & 0xc0 == 0x40
                let index = try HPACKInteger.read(block, &at, prefixBits: isIndexing ? 6 : 4)
                if index > 0 {
                    (nameCount, _) = try self.copy(index, withValue: false, into: &list.bytes)
                } else {
                    nameCount = try Self.readString(block, &at, into: &list.bytes)
                }
                valueCount = try Self.readString(block, &at, into: &list.bytes)
                if isIndexing {
                    list.bytes.withUnsafeBytes { bytes in
                        let field = UnsafeRawBufferPointer(rebasing: bytes[offset...])
                        self.table.insert(
                            name: UnsafeRawBufferPointer(rebasing: field[..<nameCount]),
                            value: UnsafeRawBufferPointer(rebasing: field[nameCount...]))
                    }
                }
            }
            unfolded += nameCount + valueCount + HPACKDynamicTable.entryOverhead
            if unfolded <= self.listBytesMax {
                list.appended(offset, nameCount, valueCount, first & 0xf0 == 0x10)
            } else {
                guard unfolded <= self.listBytesMax * Self.bombFactor else {
                    throw .listFarTooLarge(bytesMax: self.listBytesMax)
                }
                list.isTruncated = true
                list.bytes.removeSubrange(offset...)
            }
        }
    }

    private func copy(
        _ index: Int, withValue: Bool, into output: inout [UInt8]
    ) throws(HPACKError) -> (nameCount: Int, valueCount: Int) {
        guard index > 0 else { throw .unknownIndex(index) }
        if index <= HPACKStaticTable.count {
            let entry = HPACKStaticTable.shared[index]
            output.append(contentsOf: entry.name)
            if withValue { output.append(contentsOf: entry.value) }
            return (entry.name.count, withValue ? entry.value.count : 0)
        }
        guard
            let counts = self.table.copy(
                index - HPACKStaticTable.count - 1, withValue: withValue, into: &output)
        else { throw .unknownIndex(index) }
        return counts
    }

    /// Appends a string literal (RFC 7541 section 5.2) and returns its decoded length.
    private static func readString(
        _ block: UnsafeRawBufferPointer, _ at: inout Int, into output: inout [UInt8]
    ) throws(HPACKError) -> Int {
        guard at < block.count else { throw .truncated }
        let isHuffman = block[at] & 0x80 != 0
        let length = try HPACKInteger.read(block, &at, prefixBits: 7)
        guard length <= block.count - at else { throw .truncated }
        let coded = UnsafeRawBufferPointer(rebasing: block[at..<at + length])
        at += length
        guard isHuffman else {
            output.append(contentsOf: coded)
            return length
        }
        let before = output.count
        guard HPACKHuffman.shared.decode(coded, into: &output) else { throw .badHuffman }
        return output.count - before
    }
}
