package import MeshModel

/// The addresses that a resolver's answer holds for a name, and how long they may be used.
package struct DNSAddresses: Hashable, Sendable {
    package var addresses: [IPAddress]
    /// The shortest of all records on the way; of an empty answer the time for which it may be believed (RFC 2308, 5).
    package var ttlSeconds: UInt32

    /// An answer may bring more; the rest is left out.
    package static let addressesMax = 256
    /// CNAME records followed.
    package static let aliasesMax = 16
    /// A day: what a resolver says beyond that is no reason to believe an address for longer.
    package static let ttlSecondsMax: UInt32 = 86_400

    package init(addresses: [IPAddress], ttlSeconds: UInt32) {
        self.addresses = addresses
        self.ttlSeconds = min(ttlSeconds, Self.ttlSecondsMax)
    }

    /// Follows the aliases inside the message; a resolver has put the whole chain there.
    /// - Returns: nil when the message cannot be read.
    package init?(_ response: [UInt8], for question: DNSQuery.Question) {
        guard let header = DNSHeader(response) else { return nil }
        var reader = DNSReader(response)
        var records: [(owner: DNSName, record: DNSReader.Record)] = []
        var negative: UInt32?
        do throws(DNSMalformed) {
            for _ in 0..<header.questions {
                try reader.skipName()
                try reader.skip(4)
            }
            for _ in 0..<header.answers {
                var owner = DNSReader(response, at: reader.position)
                records.append((try owner.name(), try reader.record()))
            }
            for _ in 0..<header.authorities {
                let record = try reader.record()
                guard record.type == .soa, record.data.count >= 20 else { continue }
                var minimum = DNSReader(response, at: record.data.upperBound - 4)
                negative = min(record.ttl, try minimum.take32())
            }
        } catch {
            return nil
        }
        var name = question.name
        var ttl = UInt32.max
        for _ in 0..<Self.aliasesMax {
            guard let alias = records.first(where: { $0.owner == name && $0.record.type == .cname }) else { break }
            var target = DNSReader(response, at: alias.record.data.lowerBound)
            guard let next = try? target.name() else { return nil }
            ttl = min(ttl, alias.record.ttl)
            name = next
        }
        var addresses: [IPAddress] = []
        for (owner, record) in records
        where owner == name && record.type == question.type && addresses.count < Self.addressesMax {
            guard let address = IPAddress(bytes: response[record.data]),
                record.data.count == (question.type == .a ? 4 : 16)
            else { return nil }
            addresses.append(address)
            ttl = min(ttl, record.ttl)
        }
        self.init(addresses: addresses, ttlSeconds: addresses.isEmpty ? negative ?? 0 : ttl)
    }
}
