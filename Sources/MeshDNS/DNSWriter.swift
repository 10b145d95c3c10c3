internal import MeshModel

/// Writes messages: queries of our own, answers from the mesh, and refusals.
package enum DNSWriter {
    /// Where the first question's name stands, as a compression pointer.
    private static let questionName: [UInt8] = [0xc0, UInt8(DNSReader.headerBytes)]
    /// One record of an address with a compressed owner: owner, type, class, TTL, length, data.
    package static func addressRecordBytes(isV6: Bool) -> Int { 2 + 2 + 2 + 4 + 2 + (isV6 ? 16 : 4) }

    /// A question of our own: recursion wanted, with EDNS.
    package static func query(id: UInt16, _ question: DNSQuery.Question, payloadBytes: UInt16) -> [UInt8] {
        var header = DNSHeader(id: id, flags: DNSHeader.recursionDesired)
        (header.questions, header.additionals) = (1, 1)
        return header.bytes + question.name.wire + [0] + Self.pair(question.type.rawValue)
            + Self.pair(question.questionClass)
            + Self.option(DNSQuery.Extension(payloadBytes: payloadBytes))
    }

    /// No answer but a code. The question is repeated when it can be read.
    package static func refusal(of bytes: [UInt8], _ code: DNSResponseCode) -> [UInt8]? {
        guard let asked = DNSHeader(bytes) else { return nil }
        var header = asked.reply(code)
        guard let query = try? DNSQuery(bytes), query.questionEnd > DNSReader.headerBytes else { return header.bytes }
        header.questions = asked.questions
        var message = bytes[DNSReader.headerBytes..<query.questionEnd]
        if let edns = query.edns {
            header.additionals = 1
            message += Self.option(edns)
        }
        return header.bytes + message
    }

    /// - Parameters:
    ///   - query: of `bytes`, with one question.
    ///   - bytesMax: see ``DNSQuery/answerBytesMax(over:)``; addresses that do not fit are left out, and the answer says so.
    package static func answer(_ answer: MeshAnswer, to query: DNSQuery, _ bytes: [UInt8], bytesMax: Int) -> [UInt8] {
        var header = query.header.reply(.noError)
        header.flags |= DNSHeader.authoritative
        header.questions = 1
        var body = Array(bytes[DNSReader.headerBytes..<query.questionEnd])
        let option = query.edns.map(Self.option) ?? []
        header.additionals = option.isEmpty ? 0 : 1
        var owner = Self.questionName
        if answer.addresses.isEmpty {
            header.authorities = 1
            body += Self.startOfAuthority(answer, query)
        } else if let alias = answer.alias {
            header.answers = 1
            body += owner + Self.fixed(.cname, answer.ttlSeconds, alias.wire.count + 1)
            owner = Self.pointer(to: DNSReader.headerBytes + body.count)
            body += alias.wire + [0]
        }
        for address in answer.addresses {
            let record =
                owner + Self.fixed(address.isV6 ? .aaaa : .a, answer.ttlSeconds, address.isV6 ? 16 : 4)
                + address.bytes
            guard DNSReader.headerBytes + body.count + record.count + option.count <= bytesMax else {
                header.flags |= DNSHeader.truncated
                break
            }
            body += record
            header.answers += 1
        }
        return header.bytes + body + option
    }

    /// An answer without records says by this how long that holds (RFC 2308). The zone is the cluster's domain where the
    /// question lies in it, and else the very name.
    private static func startOfAuthority(_ answer: MeshAnswer, _ query: DNSQuery) -> [UInt8] {
        let name = query.question?.name ?? .root
        let offset = name.offset(ofLast: answer.zoneLabels) ?? 0
        let zone = Self.pointer(to: DNSReader.headerBytes + offset)
        let server = Self.label("ns") + Self.label("dns") + zone
        let mailbox = Self.label("hostmaster") + zone
        let times: [UInt32] = [
            1, 7200, 1800, 86_400,  // serial, refresh, retry, expire: nobody transfers this zone
            answer.ttlSeconds,
        ]
        let data = server + mailbox + times.flatMap(Self.quad)
        return zone + Self.fixed(.soa, answer.ttlSeconds, data.count) + data
    }

    private static func label(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

    /// Type, class, TTL and the length of the data.
    private static func fixed(_ type: DNSRecordType, _ ttl: UInt32, _ count: Int) -> [UInt8] {
        Self.pair(type.rawValue) + Self.pair(DNSQuery.Question.internet) + Self.quad(ttl) + Self.pair(UInt16(count))
    }

    /// Offsets stay below 2^14: before any of them stand a header, one question and at most one name.
    private static func pointer(to offset: Int) -> [UInt8] { Self.pair(0xc000 | UInt16(offset)) }

    /// Of the client's, with what an answer repeats: the size, and the wish for DNSSEC.
    package static func option(_ edns: DNSQuery.Extension) -> [UInt8] {
        [0] + Self.pair(DNSRecordType.opt.rawValue) + Self.pair(edns.payloadBytes)
            + Self.quad(edns.isDNSSECWanted ? 0x8000 : 0) + Self.pair(0)
    }

    private static func pair(_ number: UInt16) -> [UInt8] { [UInt8(number >> 8), UInt8(number & 0xff)] }
    private static func quad(_ number: UInt32) -> [UInt8] {
        Self.pair(UInt16(number >> 16)) + Self.pair(UInt16(truncatingIfNeeded: number))
    }
}
