extension HPACKEncoder {
    /// The fields of a list, behind whatever the block has already; sensitive ones are never indexed.
    package mutating func append(_ list: HTTP2HeaderList, to block: inout [UInt8]) {
        list.bytes.withUnsafeBytes { bytes in
            for field in list.fields {
                let from = field.offset + field.nameCount
                self.append(
                    name: UnsafeRawBufferPointer(rebasing: bytes[field.offset..<from]),
                    value: UnsafeRawBufferPointer(rebasing: bytes[from..<from + field.valueCount]),
                    field.isSensitive ? .never : .none, to: &block)
            }
        }
    }
}
