/// Why bytes are no DNS message we can answer.
package enum DNSMalformed: Error, Hashable, Sendable {
    /// Not even a header, or not a query: no answer is owed.
    case ignored
    /// A header, and then something wrong: answered with this code.
    case answered(id: UInt16, DNSResponseCode)
}

/// Reads DNS messages (RFC 1035 section 4). Bounded by the message, never follows a pointer forward, and follows at most
/// ``jumpsMax`` of them.
package struct DNSReader {
    private static let jumpsMax = 32
    /// Records that are looked at in one message.
    private static let recordsMax = 128

    private let bytes: [UInt8]
    private var at: Int

    private init(_ bytes: [UInt8]) {
        self.bytes = bytes
        self.at = 12
    }

    private struct Truncated: Error {}

    private func number16(_ offset: Int) throws(Truncated) -> UInt16 {
        guard offset >= 0, offset + 2 <= self.bytes.count else { throw Truncated() }
        return UInt16(self.bytes[offset]) << 8 | UInt16(self.bytes[offset + 1])
    }
    private mutating func take16() throws(Truncated) -> UInt16 {
        let value = try self.number16(self.at)
        self.at += 2
        return value
    }
    private mutating func take32() throws(Truncated) -> UInt32 {
        UInt32(try self.take16()) << 16 | UInt32(try self.take16())
    }

    private mutating func name() throws(Truncated) -> DNSName {
        var labels: [[UInt8]] = []
        var position = self.at
        var end: Int?
        var jumps = 0
        var total = 1
        while true {
            guard position < self.bytes.count else { throw Truncated() }
            let length = Int(self.bytes[position])
            switch length {
            case 0:
                self.at = end ?? position + 1
                guard let name = DNSName(labels: labels) else { throw Truncated() }
                return name
            case 1...63:
                guard position + 1 + length <= self.bytes.count else { throw Truncated() }
                total += length + 1
                guard total <= DNSName.bytesMax else { throw Truncated() }
                labels.append(Array(self.bytes[position + 1..<position + 1 + length]))
                position += 1 + length
            case 0xc0...0xff:
                let target = Int(try self.number16(position) & 0x3fff)
                jumps += 1
                guard target < position, jumps <= Self.jumpsMax else { throw Truncated() }
                if end == nil { end = position + 2 }
                position = target
            default: throw Truncated()
            }
        }
    }

    /// - Throws: ``DNSMalformed``.
    package static func query(_ bytes: [UInt8]) throws(DNSMalformed) -> DNSQuery {
        guard bytes.count >= 12 else { throw .ignored }
        var reader = DNSReader(bytes)
        let id = UInt16(bytes[0]) << 8 | UInt16(bytes[1])
        // A response sent back to us must not be answered: two servers could talk for ever.
        guard bytes[2] & 0x80 == 0 else { throw .ignored }
        guard bytes[2] & 0x78 == 0 else { throw .answered(id: id, .notImplemented) }
        do {
            guard try reader.number16(4) == 1 else { throw DNSMalformed.answered(id: id, .formatError) }
            let name = try reader.name()
            let type = DNSType(rawValue: try reader.take16())
            let isInternet = [1, 255].contains(try reader.take16())
            guard isInternet else { throw DNSMalformed.answered(id: id, .refused) }
            var query = DNSQuery(
                id: id, recursionDesired: bytes[2] & 1 == 1, question: DNSQuestion(name, type))
            let records = [6, 8, 10].reduce(0) { $0 + Int((try? reader.number16($1)) ?? 0) }
            for _ in 0..<min(records, Self.recordsMax) {
                _ = try reader.name()
                let type = DNSType(rawValue: try reader.take16())
                let payload = try reader.take16()
                _ = try reader.take32()
                let length = Int(try reader.take16())
                guard reader.at + length <= bytes.count else { throw Truncated() }
                reader.at += length
                if type == .opt { query.payloadBytes = max(512, payload) }
            }
            return query
        } catch let error as DNSMalformed {
            throw error
        } catch {
            throw .answered(id: id, .formatError)
        }
    }

    /// What of a response we need to check and to pass on: its id, its question, and address and CNAME answers.
    package struct Reply: Hashable, Sendable {
        package var id: UInt16
        package var isTruncated: Bool
        package var code: DNSResponseCode
        package var question: DNSQuestion?
        package var answers: [DNSRecord]
    }

    /// Nil for anything that is no well-formed response.
    package static func reply(_ bytes: [UInt8]) -> Reply? {
        guard bytes.count >= 12, bytes[2] & 0x80 != 0 else { return nil }
        var reader = DNSReader(bytes)
        do {
            var reply = Reply(
                id: try reader.number16(0), isTruncated: bytes[2] & 2 != 0,
                code: DNSResponseCode(rawValue: bytes[3] & 15), question: nil, answers: [])
            let questions = try reader.number16(4)
            guard questions <= 1 else { return nil }
            if questions == 1 {
                reply.question = DNSQuestion(try reader.name(), DNSType(rawValue: try reader.take16()))
                _ = try reader.take16()
            }
            for _ in 0..<min(Int(try reader.number16(6)), Self.recordsMax) {
                if let record = try reader.record() { reply.answers.append(record) }
            }
            return reply
        } catch {
            return nil
        }
    }

    private mutating func record() throws(Truncated) -> DNSRecord? {
        let name = try self.name()
        let type = DNSType(rawValue: try self.take16())
        _ = try self.take16()
        let ttl = try self.take32()
        let length = Int(try self.take16())
        let end = self.at + length
        guard end <= self.bytes.count else { throw Truncated() }
        defer { self.at = end }
        switch type {
        case .a where length == 4: return DNSRecord(name, ttl: ttl, .a(try self.take32()))
        case .aaaa where length == 16: return DNSRecord(name, ttl: ttl, .aaaa(Array(self.bytes[self.at..<end])))
        case .cname: return DNSRecord(name, ttl: ttl, .cname(try self.name()))
        default: return nil
        }
    }
}
