/// The first twelve bytes of a message (RFC 1035, 4.1.1).
package struct DNSHeader: Hashable, Sendable {
    package var id: UInt16
    /// QR, opcode, AA, TC, RD, RA, Z, AD, CD and the code, as they stand in the message.
    package var flags: UInt16
    package var questions, answers, authorities, additionals: UInt16

    package static let response: UInt16 = 0x8000
    package static let authoritative: UInt16 = 0x0400
    package static let truncated: UInt16 = 0x0200
    package static let recursionDesired: UInt16 = 0x0100
    package static let recursionAvailable: UInt16 = 0x0080
    package static let checkingDisabled: UInt16 = 0x0010
    private static let opcodeBits: UInt16 = 0x7800

    package init(id: UInt16, flags: UInt16) {
        self.id = id
        self.flags = flags
        (self.questions, self.answers, self.authorities, self.additionals) = (0, 0, 0, 0)
    }

    /// Nil when there are fewer than twelve bytes.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count >= DNSReader.headerBytes else { return nil }
        func number(_ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
        self.id = number(0)
        self.flags = number(2)
        self.questions = number(4)
        self.answers = number(6)
        self.authorities = number(8)
        self.additionals = number(10)
    }

    package var isResponse: Bool { self.flags & Self.response != 0 }
    package var isTruncated: Bool { self.flags & Self.truncated != 0 }
    /// 0 is a query; 4 notify, 5 update, 6 stateful operations.
    package var opcode: UInt8 { UInt8((self.flags & Self.opcodeBits) >> 11) }
    package var code: DNSResponseCode { DNSResponseCode(rawValue: UInt8(self.flags & 0xf)) }

    package var bytes: [UInt8] {
        [self.id, self.flags, self.questions, self.answers, self.authorities, self.additionals]
            .flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
    }

    /// What every answer to this message has: its id, its opcode, and the bits that are copied.
    package func reply(_ code: DNSResponseCode) -> DNSHeader {
        let copied = Self.opcodeBits | Self.recursionDesired | Self.checkingDisabled
        return DNSHeader(
            id: self.id,
            flags: Self.response | self.flags & copied | Self.recursionAvailable | UInt16(code.rawValue))
    }
}
