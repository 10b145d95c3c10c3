/// The first-in, first-out table of one direction (RFC 7541 section 2.3.2).
///
/// Names and values lie behind one another in one byte array, so that an insertion allocates nothing once the arrays
/// have their size, and an unused table costs nothing. Memory: at most twice the table's limit, and one entry.
struct HPACKDynamicTable {
    /// What an entry counts beyond its octets (RFC 7541 section 4.1).
    static let entryOverhead = 32

    /// Half the size with 32 bits each; every idle connection has two tables of them. A table's octets are far fewer.
    private struct Entry {
        private var places: (offset: UInt32, nameCount: UInt32, valueCount: UInt32)

        init(offset: Int, nameCount: Int, valueCount: Int) {
            self.places = (UInt32(offset), UInt32(nameCount), UInt32(valueCount))
        }

        var offset: Int {
            get { Int(self.places.offset) }
            set { self.places.offset = UInt32(newValue) }
        }
        var nameCount: Int { Int(self.places.nameCount) }
        var valueCount: Int { Int(self.places.valueCount) }
        var size: Int { self.nameCount + self.valueCount + HPACKDynamicTable.entryOverhead }
    }

    /// As RFC 7541 counts, with the overhead of each entry.
    private(set) var size = 0
    /// The current limit, octets.
    private(set) var sizeMax: Int
    private var bytes: [UInt8] = []
    /// The oldest first; those before `firstEntry` are evicted.
    private var entries: [Entry] = []
    private var firstEntry = 0

    init(sizeMax: Int) { self.sizeMax = sizeMax }

    var count: Int { self.entries.count - self.firstEntry }

    mutating func resize(to sizeMax: Int) {
        self.sizeMax = sizeMax
        self.evict(room: 0)
    }

    /// Appends an entry's octets to `output`.
    ///
    /// - Parameter index: 0 is the newest entry.
    /// - Returns: the lengths of name and value; nil when there is no such entry.
    func copy(
        _ index: Int, withValue: Bool, into output: inout [UInt8]
    ) -> (nameCount: Int, valueCount: Int)? {
        guard index >= 0, index < self.count else { return nil }
        let entry = self.entries[self.entries.count - 1 - index]
        let end = entry.offset + entry.nameCount + (withValue ? entry.valueCount : 0)
        output.append(contentsOf: self.bytes[entry.offset..<end])
        return (entry.nameCount, withValue ? entry.valueCount : 0)
    }

    /// Adds an entry at index 0. One larger than the table empties it and is not kept, which is no error.
    mutating func insert(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        let entry = Entry(offset: self.bytes.count, nameCount: name.count, valueCount: value.count)
        self.evict(room: entry.size)
        guard entry.size <= self.sizeMax else { return }
        self.compact()
        self.entries.append(Entry(offset: self.bytes.count, nameCount: name.count, valueCount: value.count))
        self.bytes.append(contentsOf: name)
        self.bytes.append(contentsOf: value)
        self.size += entry.size
    }

    /// The best entry for a field, as ``HPACKStaticTable/find(name:value:)``; 0 is the newest. Linear in ``count``,
    /// at most 128 for the usual 4 KiB.
    func find(
        name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer
    ) -> (index: Int, matchesValue: Bool)? {
        var nameAt: Int?
        var index = 0
        while index < self.count {
            let entry = self.entries[self.entries.count - 1 - index]
            if entry.nameCount == name.count,
                self.bytes[entry.offset..<entry.offset + entry.nameCount].elementsEqual(name)
            {
                let from = entry.offset + entry.nameCount
                if entry.valueCount == value.count,
                    self.bytes[from..<from + entry.valueCount].elementsEqual(value)
                {
                    return (index, true)
                }
                if nameAt == nil { nameAt = index }
            }
            index += 1
        }
        return nameAt.map { ($0, false) }
    }

    private mutating func evict(room: Int) {
        while self.count > 0, self.size + room > self.sizeMax {
            self.size -= self.entries[self.firstEntry].size
            self.firstEntry += 1
        }
        if self.count == 0 {
            self.entries.removeAll(keepingCapacity: true)
            self.bytes.removeAll(keepingCapacity: true)
            self.firstEntry = 0
        }
    }

    /// Moves the live entries to the front once the dead octets before them are as many as the table may hold, so
    /// each octet moves at most once for each table's worth of insertions.
    private mutating func compact() {
        guard self.count > 0 else { return }
        let dead = self.entries[self.firstEntry].offset
        guard dead >= max(self.sizeMax, 256) || self.firstEntry >= 256 else { return }
        self.bytes.removeSubrange(..<dead)
        self.entries.removeSubrange(..<self.firstEntry)
        self.firstEntry = 0
        for at in self.entries.indices { self.entries[at].offset -= dead }
    }
}
