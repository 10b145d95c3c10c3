/// The bytes are no DNS message.
package struct DNSMalformed: Error, Hashable, Sendable {}

/// Reads a message piece by piece (RFC 1035, 4). Every step is bounded by the bytes that are there: a compression pointer
/// only counts when it points backwards, and a name ends at ``DNSName/bytesMax``, so that no message makes it loop.
package struct DNSReader {
    package static let headerBytes = 12
    /// The largest message that TCP can frame (RFC 1035, 4.2.2).
    package static let messageBytesMax = 65_535
    /// Pointers followed in one name; with one label each, a legal name needs no more.
    static let jumpsMax = 127

    let bytes: [UInt8]
    package private(set) var position: Int

    package init(_ bytes: [UInt8], at position: Int = Self.headerBytes) {
        self.bytes = bytes
        self.position = position
    }

    package mutating func take16() throws(DNSMalformed) -> UInt16 {
        guard self.position + 2 <= self.bytes.count else { throw DNSMalformed() }
        defer { self.position += 2 }
        return UInt16(self.bytes[self.position]) << 8 | UInt16(self.bytes[self.position + 1])
    }

    package mutating func take32() throws(DNSMalformed) -> UInt32 {
        UInt32(try self.take16()) << 16 | UInt32(try self.take16())
    }

    package mutating func skip(_ count: Int) throws(DNSMalformed) {
        guard count >= 0, self.position + count <= self.bytes.count else { throw DNSMalformed() }
        self.position += count
    }

    package mutating func name() throws(DNSMalformed) -> DNSName {
        var labels: [ArraySlice<UInt8>] = []
        var total = 1
        try self.walk { label throws(DNSMalformed) in
            total += label.count + 1
            guard total <= DNSName.bytesMax else { throw DNSMalformed() }
            labels.append(label)
        }
        guard let name = DNSName(labels: labels) else { throw DNSMalformed() }
        return name
    }

    /// Past a name, without following its pointer.
    package mutating func skipName() throws(DNSMalformed) {
        while true {
            guard self.position < self.bytes.count else { throw DNSMalformed() }
            let length = Int(self.bytes[self.position])
            switch length {
            case 0:
                self.position += 1
                return
            case 1...DNSName.labelBytesMax: try self.skip(1 + length)
            case 0xc0...0xff:
                try self.skip(2)
                return
            default: throw DNSMalformed()  // 0x40 and 0x80: label types that were never used
            }
        }
    }

    private mutating func walk(_ body: (ArraySlice<UInt8>) throws(DNSMalformed) -> Void) throws(DNSMalformed) {
        var at = self.position
        var end: Int?
        var jumps = 0
        while true {
            guard at < self.bytes.count else { throw DNSMalformed() }
            let length = Int(self.bytes[at])
            switch length {
            case 0:
                self.position = end ?? at + 1
                return
            case 1...DNSName.labelBytesMax:
                guard at + 1 + length <= self.bytes.count else { throw DNSMalformed() }
                try body(self.bytes[at + 1..<at + 1 + length])
                at += 1 + length
            case 0xc0...0xff:
                guard at + 2 <= self.bytes.count else { throw DNSMalformed() }
                let target = (length & 0x3f) << 8 | Int(self.bytes[at + 1])
                jumps += 1
                guard target < at, jumps <= Self.jumpsMax else { throw DNSMalformed() }
                if end == nil { end = at + 2 }
                at = target
            default: throw DNSMalformed()
            }
        }
    }

    /// One record; its data stays where it is.
    package struct Record {
        /// From the first byte of its owner to the last of its data.
        package var range: Range<Int>
        package var type: DNSRecordType
        package var recordClass: UInt16
        package var ttl: UInt32
        package var data: Range<Int>
    }

    package mutating func record() throws(DNSMalformed) -> Record {
        let start = self.position
        try self.skipName()
        let type = DNSRecordType(rawValue: try self.take16())
        let recordClass = try self.take16()
        let ttl = try self.take32()
        let count = Int(try self.take16())
        let data = self.position..<self.position + count
        try self.skip(count)
        return Record(range: start..<self.position, type: type, recordClass: recordClass, ttl: ttl, data: data)
    }
}
