/// The server name in a TLS client hello (RFC 8446, 4.1.2; RFC 6066, 3), read without believing any length.
enum TLSClientHello {
    enum Answer: Hashable {
        /// Lower case.
        case found(String)
        /// The hello is complete and names nobody, or this is none.
        case none
        case needsMore
    }

    static func serverName(in bytes: [UInt8]) -> Answer {
        // Records, put together: a hello with post-quantum shares may take two.
        var handshake: [UInt8] = []
        var at = 0
        while true {
            guard at + 5 <= bytes.count else { break }
            guard bytes[at] == 0x16, bytes[at + 1] == 0x03 else { return .none }
            let length = Int(bytes[at + 3]) << 8 | Int(bytes[at + 4])
            guard length > 0, length <= 16_384 + 256 else { return .none }
            handshake.append(contentsOf: bytes[(at + 5)..<min(bytes.count, at + 5 + length)])
            at += 5 + length
            if at > bytes.count { break }
        }
        guard handshake.count >= 4 else { return .needsMore }
        guard handshake[0] == 1 else { return .none }
        let length = Int(handshake[1]) << 16 | Int(handshake[2]) << 8 | Int(handshake[3])
        guard handshake.count >= 4 + length else { return .needsMore }
        var reader = Reader(handshake[4..<4 + length])
        guard reader.skip(34), reader.skip(prefix: 1), reader.skip(prefix: 2), reader.skip(prefix: 1),
            var extensions = reader.sub(prefix: 2)
        else { return .none }
        while let type = extensions.number(2), var body = extensions.sub(prefix: 2) {
            guard type == 0 else { continue }
            guard var list = body.sub(prefix: 2), let kind = list.number(1), kind == 0,
                let name = list.sub(prefix: 2)
            else { return .none }
            guard name.bytes.count <= 255, name.bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return .none }
            return .found(String(decoding: name.bytes, as: UTF8.self).lowercased())
        }
        return .none
    }

    private struct Reader {
        var bytes: ArraySlice<UInt8>
        init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

        mutating func number(_ octets: Int) -> Int? {
            guard self.bytes.count >= octets else { return nil }
            defer { self.bytes = self.bytes.dropFirst(octets) }
            return self.bytes.prefix(octets).reduce(0) { $0 << 8 | Int($1) }
        }

        mutating func skip(_ octets: Int) -> Bool {
            guard self.bytes.count >= octets else { return false }
            self.bytes = self.bytes.dropFirst(octets)
            return true
        }

        mutating func skip(prefix: Int) -> Bool { self.sub(prefix: prefix) != nil }

        mutating func sub(prefix: Int) -> Reader? {
            guard let length = self.number(prefix), self.bytes.count >= length else { return nil }
            defer { self.bytes = self.bytes.dropFirst(length) }
            return Reader(self.bytes.prefix(length))
        }
    }
}
