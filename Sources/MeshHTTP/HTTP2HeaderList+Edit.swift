/// Finding and changing fields by names that are known only while running, as routes and filters do.
///
/// Names are compared octet by octet: give them in lower case.
extension HTTP2HeaderList {
    package func hasName(_ index: Int, bytes name: [UInt8]) -> Bool {
        let field = self.fields[index]
        guard field.nameCount == name.count else { return false }
        for at in 0..<name.count where self.bytes[field.offset + at] != name[at] { return false }
        return true
    }

    package func hasName(_ index: Int, text name: String) -> Bool {
        let field = self.fields[index]
        guard field.nameCount == name.utf8.count else { return false }
        var at = field.offset
        for byte in name.utf8 {
            if self.bytes[at] != byte { return false }
            at += 1
        }
        return true
    }

    /// The first field of that name at or after `start`.
    package func firstIndex(bytes name: [UInt8], from start: Int = 0) -> Int? {
        for index in start..<max(start, self.fields.count) where self.hasName(index, bytes: name) { return index }
        return nil
    }

    package func firstIndex(named name: String, from start: Int = 0) -> Int? {
        for index in start..<max(start, self.fields.count) where self.hasName(index, text: name) { return index }
        return nil
    }

    /// The first value of that name.
    package func value(named name: String) -> String? { self.firstIndex(named: name).map(self.value) }

    /// Removes every field of that name. Their octets stay in the list's memory until ``removeAll()``.
    package mutating func remove(named name: String) {
        guard let first = self.firstIndex(named: name) else { return }
        var kept = first
        for index in first..<self.fields.count {
            if self.hasName(index, text: name) {
                let field = self.fields[index]
                self.listBytes -= field.nameCount + field.valueCount + HPACKDynamicTable.entryOverhead
            } else {
                self.fields[kept] = self.fields[index]
                kept += 1
            }
        }
        self.fields.removeSubrange(kept...)
    }

    /// Removes one field; those behind it move up.
    package mutating func remove(at index: Int) {
        let field = self.fields.remove(at: index)
        self.listBytes -= field.nameCount + field.valueCount + HPACKDynamicTable.entryOverhead
    }

    /// One field of that name remains, with this value and at the end of the list.
    package mutating func replace(_ name: String, _ value: String, sensitive: Bool = false) {
        self.remove(named: name)
        self.append(name, value, sensitive: sensitive)
    }
}
