package import MeshDNS

/// What the cluster's zone holds. Class IN is the only class we know.
package struct DNSRecord: Hashable, Sendable {
    package enum Value: Hashable, Sendable {
        /// Network byte order.
        case a(UInt32)
        case aaaa([UInt8])
        case cname(DNSName)
        case ptr(DNSName)
        case ns(DNSName)
        case srv(priority: UInt16, weight: UInt16, port: UInt16, target: DNSName)
        /// Times in seconds.
        case soa(
            server: DNSName, mailbox: DNSName, serial: UInt32, refresh: UInt32, retry: UInt32, expire: UInt32,
            minimum: UInt32)
    }
    package var name: DNSName
    /// Seconds.
    package var ttl: UInt32
    package var value: Value
    package init(_ name: DNSName, ttl: UInt32, _ value: Value) {
        self.name = name
        self.ttl = ttl
        self.value = value
    }

    package var type: DNSRecordType {
        switch self.value {
        case .a: .a
        case .aaaa: .aaaa
        case .cname: .cname
        case .ptr: .ptr
        case .ns: .ns
        case .srv: .srv
        case .soa: .soa
        }
    }

    /// Records that are looked at in one answer.
    private static let answersMax = 128

    /// The addresses and aliases that a resolver answered with; none when the message cannot be read.
    package static func answers(of response: [UInt8]) -> [DNSRecord] {
        guard let header = DNSHeader(response) else { return [] }
        var records: [DNSRecord] = []
        var reader = DNSReader(response)
        do throws(DNSMalformed) {
            for _ in 0..<header.questions {
                try reader.skipName()
                try reader.skip(4)
            }
            for _ in 0..<min(Int(header.answers), Self.answersMax) {
                var owner = DNSReader(response, at: reader.position)
                let name = try owner.name()
                let record = try reader.record()
                var data = DNSReader(response, at: record.data.lowerBound)
                let value: Value
                switch record.type {
                case .a where record.data.count == 4: value = .a(try data.take32())
                case .aaaa where record.data.count == 16: value = .aaaa(Array(response[record.data]))
                case .cname: value = .cname(try data.name())
                default: continue
                }
                records.append(DNSRecord(name, ttl: record.ttl, value))
            }
        } catch {
            return []
        }
        return records
    }
}

/// What is answered to a question.
package struct DNSResponse: Hashable, Sendable {
    package var code: DNSResponseCode
    package var isAuthoritative: Bool
    package var answers: [DNSRecord]
    package var authority: [DNSRecord]
    package var additional: [DNSRecord]

    package init(
        _ code: DNSResponseCode, isAuthoritative: Bool = true, answers: [DNSRecord] = [], authority: [DNSRecord] = [],
        additional: [DNSRecord] = []
    ) {
        self.code = code
        self.isAuthoritative = isAuthoritative
        self.answers = answers
        self.authority = authority
        self.additional = additional
    }
}
