package import MeshDNS

/// Writes responses with records of any type that the zone has, names compressed (RFC 1035 section 4.1.4).
package struct DNSResponseWriter {
    private var bytes: [UInt8] = []
    /// Where a name was written.
    private var offsets: [DNSName: Int] = [:]

    /// What we say we take over UDP: fits every path without fragments.
    package static let payloadBytes: UInt16 = 1_232

    /// - Parameter bytesMax: what the client takes; a longer message is cut to its question, with the TC bit set.
    package static func response(
        _ response: DNSResponse, to query: DNSQuery, _ question: DNSQuery.Question, bytesMax: Int
    ) -> [UInt8] {
        let whole = self.message(response, query, question, isTruncated: false)
        guard whole.count > bytesMax else { return whole }
        return self.message(
            DNSResponse(response.code, isAuthoritative: response.isAuthoritative), query, question, isTruncated: true)
    }

    private static func message(
        _ response: DNSResponse, _ query: DNSQuery, _ question: DNSQuery.Question, isTruncated: Bool
    ) -> [UInt8] {
        var header = query.header.reply(response.code)
        if response.isAuthoritative { header.flags |= DNSHeader.authoritative }
        if isTruncated { header.flags |= DNSHeader.truncated }
        header.questions = 1
        header.answers = UInt16(response.answers.count)
        header.authorities = UInt16(response.authority.count)
        header.additionals = UInt16(response.additional.count + (query.edns == nil ? 0 : 1))
        var writer = Self()
        writer.bytes = header.bytes
        writer.put(question.name)
        writer.put16(question.type.rawValue)
        writer.put16(question.questionClass)
        for record in response.answers + response.authority + response.additional { writer.put(record) }
        if query.edns != nil {
            writer.bytes += DNSWriter.option(DNSQuery.Extension(payloadBytes: Self.payloadBytes))
        }
        return writer.bytes
    }

    private mutating func put16(_ value: UInt16) { self.bytes += [UInt8(value >> 8), UInt8(value & 0xff)] }
    private mutating func put32(_ value: UInt32) {
        self.put16(UInt16(value >> 16))
        self.put16(UInt16(value & 0xffff))
    }

    private mutating func put(_ name: DNSName, isCompressible: Bool = true) {
        var rest = name.labels[...]
        while let label = rest.first {
            if let suffix = DNSName(labels: rest) {
                if isCompressible, let offset = self.offsets[suffix] {
                    self.put16(0xc000 | UInt16(offset))
                    return
                }
                if self.bytes.count < 0x4000, self.offsets[suffix] == nil { self.offsets[suffix] = self.bytes.count }
            }
            self.bytes.append(UInt8(label.count))
            self.bytes += label
            rest = rest.dropFirst()
        }
        self.bytes.append(0)
    }

    private mutating func put(_ record: DNSRecord) {
        self.put(record.name)
        self.put16(record.type.rawValue)
        self.put16(DNSQuery.Question.internet)
        self.put32(record.ttl)
        let lengthAt = self.bytes.count
        self.put16(0)
        switch record.value {
        case .a(let address): self.put32(address)
        case .aaaa(let address): self.bytes += address
        case .cname(let name), .ptr(let name), .ns(let name): self.put(name)
        case .srv(let priority, let weight, let port, let target):
            self.put16(priority)
            self.put16(weight)
            self.put16(port)
            // RFC 2782: the target is not compressed.
            self.put(target, isCompressible: false)
        case .soa(let server, let mailbox, let serial, let refresh, let retry, let expire, let minimum):
            self.put(server)
            self.put(mailbox)
            for value in [serial, refresh, retry, expire, minimum] { self.put32(value) }
        }
        let length = self.bytes.count - lengthAt - 2
        self.bytes[lengthAt] = UInt8(length >> 8)
        self.bytes[lengthAt + 1] = UInt8(length & 0xff)
    }
}
