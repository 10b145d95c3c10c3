/// Makes a resolver's answer fit where it came longer than the client takes, or shorter than it says.
package enum DNSTruncation {
    /// The message if it fits, else as many of its records as do, in order, always with its EDNS record.
    ///
    /// Additional records may be missing without a word; when an answer or an authority record is left out, the TC bit
    /// says so (RFC 2181, 9), and the client asks again over TCP.
    /// - Parameter bytes: a response; may end in the middle, as a datagram does that was longer than the buffer.
    package static func fitted(_ bytes: [UInt8], bytesMax: Int) -> [UInt8] {
        guard bytes.count > bytesMax || Self.isCut(bytes), var header = DNSHeader(bytes) else { return bytes }
        var reader = DNSReader(bytes)
        var kept = DNSHeader(id: header.id, flags: header.flags)
        do throws(DNSMalformed) {
            for _ in 0..<header.questions {
                try reader.skipName()
                try reader.skip(4)
            }
            kept.questions = header.questions
        } catch {
            kept.flags |= DNSHeader.truncated
            return kept.bytes
        }
        let questionEnd = reader.position
        let option = Self.option(of: bytes)
        var end = questionEnd
        func fits(_ record: DNSReader.Record) -> Bool { record.range.upperBound + option.count <= bytesMax }
        func take(_ count: UInt16, _ kept: inout UInt16) -> Bool {
            for _ in 0..<count {
                guard let record = try? reader.record(), fits(record) else { return false }
                end = record.range.upperBound
                kept += 1
            }
            return true
        }
        if !(take(header.answers, &kept.answers) && take(header.authorities, &kept.authorities)) {
            kept.flags |= DNSHeader.truncated
        }
        header = kept
        var message = bytes[DNSReader.headerBytes..<end]
        if !option.isEmpty {
            header.additionals = 1
            message += option
        }
        return header.bytes + message
    }

    /// The counts promise more than there is.
    private static func isCut(_ bytes: [UInt8]) -> Bool {
        guard let header = DNSHeader(bytes) else { return false }
        var reader = DNSReader(bytes)
        do throws(DNSMalformed) {
            for _ in 0..<header.questions {
                try reader.skipName()
                try reader.skip(4)
            }
            for _ in 0..<Int(header.answers) + Int(header.authorities) + Int(header.additionals) {
                _ = try reader.record()
            }
            return false
        } catch {
            return true
        }
    }

    /// The EDNS record as it stands in the message. Its owner is the root, so it holds no pointer and can move.
    private static func option(of bytes: [UInt8]) -> ArraySlice<UInt8> {
        guard let header = DNSHeader(bytes) else { return [] }
        var reader = DNSReader(bytes)
        do throws(DNSMalformed) {
            for _ in 0..<header.questions {
                try reader.skipName()
                try reader.skip(4)
            }
            for _ in 0..<Int(header.answers) + Int(header.authorities) { _ = try reader.record() }
            for _ in 0..<header.additionals {
                let record = try reader.record()
                if record.type == .opt, bytes[record.range.lowerBound] == 0 { return bytes[record.range] }
            }
        } catch {}
        return []
    }
}
