/// HPACK's static table (RFC 7541 appendix A): entries 1 to 61, made once.
struct HPACKStaticTable: Sendable {
    static let shared = HPACKStaticTable()
    static let count = 61

    struct Entry: Sendable {
        let name, value: [UInt8]
    }

    /// Entry 1 is at 0.
    private let entries: [Entry]
    /// Open addressing by the hash of the name; the index of its first entry, 0 for a free slot.
    private let slots: [UInt8]
    private static let slotMask = 127

    private init() {
        self.entries = Self.text.map { Entry(name: Array($0.0.utf8), value: Array($0.1.utf8)) }
        var slots = [UInt8](repeating: 0, count: Self.slotMask + 1)
        for (at, entry) in self.entries.enumerated() where at == 0 || self.entries[at - 1].name != entry.name {
            var slot = entry.name.withUnsafeBytes(HPACKHash.of) & Self.slotMask
            while slots[slot] != 0 { slot = (slot + 1) & Self.slotMask }
            slots[slot] = UInt8(at + 1)
        }
        self.slots = slots
    }

    /// - Parameter index: 1 to ``count``.
    subscript(index: Int) -> Entry { self.entries[index - 1] }

    /// The best entry for a field: one with name and value, else the first with the name; nil for an unknown name.
    func find(
        name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer
    ) -> (index: Int, matchesValue: Bool)? {
        var slot = HPACKHash.of(name) & Self.slotMask
        while self.slots[slot] != 0 {
            let first = Int(self.slots[slot])
            if self[first].name.elementsEqual(name) {
                var index = first
                // Entries of one name are neighbours.
                while index <= Self.count, index == first || self[index].name == self[first].name {
                    if self[index].value.elementsEqual(value) { return (index, true) }
                    index += 1
                }
                return (first, false)
            }
            slot = (slot + 1) & Self.slotMask
        }
        return nil
    }

    private static let text: [(String, String)] = [
        (":authority", ""),
        (":method", "GET"),
        (":method", "POST"),
        (":path", "/"),
        (":path", "/index.html"),
        (":scheme", "http"),
        (":scheme", "https"),
        (":status", "200"),
        (":status", "204"),
        (":status", "206"),
        (":status", "304"),
        (":status", "400"),
        (":status", "404"),
        (":status", "500"),
        ("accept-charset", ""),
        ("accept-encoding", "gzip, deflate"),
        ("accept-language", ""),
        ("accept-ranges", ""),
        ("accept", ""),
        ("access-control-allow-origin", ""),
        ("age", ""),
        ("allow", ""),
        ("authorization", ""),
        ("cache-control", ""),
        ("content-disposition", ""),
        ("content-encoding", ""),
        ("content-language", ""),
        ("content-length", ""),
        ("content-location", ""),
        ("content-range", ""),
        ("content-type", ""),
        ("cookie", ""),
        ("date", ""),
        ("etag", ""),
        ("expect", ""),
        ("expires", ""),
        ("from", ""),
        ("host", ""),
        ("if-match", ""),
        ("if-modified-since", ""),
        ("if-none-match", ""),
        ("if-range", ""),
        ("if-unmodified-since", ""),
        ("last-modified", ""),
        ("link", ""),
        ("location", ""),
        ("max-forwards", ""),
        ("proxy-authenticate", ""),
        ("proxy-authorization", ""),
        ("range", ""),
        ("referer", ""),
        ("refresh", ""),
        ("retry-after", ""),
        ("server", ""),
        ("set-cookie", ""),
        ("strict-transport-security", ""),
        ("transfer-encoding", ""),
        ("user-agent", ""),
        ("vary", ""),
        ("via", ""),
        ("www-authenticate", ""),
    ]
}

/// FNV-1a: the tables are tiny and their names are short. Not for tables that a peer could fill.
enum HPACKHash {
    @inline(__always)
    static func of(_ bytes: UnsafeRawBufferPointer) -> Int {
        var hash: UInt32 = 0x811c_9dc5
        for byte in bytes { hash = (hash ^ UInt32(byte)) &* 0x0100_0193 }
        // The low bits alone mix badly.
        return Int(hash ^ hash >> 15)
    }
}
