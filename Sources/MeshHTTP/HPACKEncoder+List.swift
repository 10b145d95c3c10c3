extension HPACKEncoder {
    /// The fields of a list, behind whatever the block has already. Those whose values come again enter the table; secrets
    /// are never indexed.
    package mutating func append(_ list: HTTP2HeaderList, to block: inout [UInt8]) {
        list.bytes.withUnsafeBytes { bytes in
            for field in list.fields {
                let from = field.offset + field.nameCount
                let name = UnsafeRawBufferPointer(rebasing: bytes[field.offset..<from])
                self.append(
                    name: name,
                    value: UnsafeRawBufferPointer(rebasing: bytes[from..<from + field.valueCount]),
                    field.isSensitive ? .never : RepeatedFields.contain(name) ? .table : .none, to: &block)
            }
        }
    }
}

/// Fields that most messages of a connection say alike. Identifiers, lengths, times of single requests, cookies and
/// credentials are not among them: they would push these out of the table, and secrets in it can be guessed at.
enum RepeatedFields {
    private static let names: [StaticString] = [
        // Responses. `date` is the same for a second.
        "date", "server", "content-type", "content-encoding", "cache-control", "vary", "x-powered-by",
        "strict-transport-security", "x-content-type-options", "x-frame-options", "access-control-allow-origin",
        "access-control-allow-credentials", "access-control-expose-headers", "grpc-status", "grpc-encoding",
        // Requests.
        "accept", "accept-encoding", "accept-language", "user-agent", "te", "origin", "x-forwarded-proto",
        "grpc-accept-encoding",
    ]

    /// By their lengths.
    private static let byLength: [[StaticString]] = {
        var lists = [[StaticString]](repeating: [], count: 33)
        for name in Self.names { lists[name.utf8CodeUnitCount].append(name) }
        return lists
    }()

    static func contain(_ name: UnsafeRawBufferPointer) -> Bool {
        guard name.count < self.byLength.count else { return false }
        for candidate in self.byLength[name.count] {
            if UnsafeBufferPointer(start: candidate.utf8Start, count: name.count).elementsEqual(name) { return true }
        }
        return false
    }
}
