package import MeshModel
internal import NIOCore

/// The name servers of a resolv.conf(5) text.
package enum DNSResolvers {
    private static let port: UInt16 = 53

    /// In order, at most ``DNSLimits/resolversMax``; link-local addresses with a zone are left out: the zone of our
    /// namespace means nothing in a pod's.
    package static func parse(_ text: String) -> [IPEndpoint] {
        var found: [IPEndpoint] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count >= 2, words[0] == "nameserver", let address = IPAddress(words[1]) else { continue }
            let resolver = IPEndpoint(address: address, port: Self.port)
            if !found.contains(resolver) { found.append(resolver) }
        }
        return Array(found.prefix(DNSLimits.resolversMax))
    }
}

/// The search domains of a resolv.conf(5) text.
package enum DNSSearchDomains {
    /// Lower case, without dots around, at most ``DNSLimits/searchDomainsMax``; the last line that names any counts.
    package static func parse(_ text: String) -> [String] {
        var found: [String] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count >= 2, words[0] == "search" || words[0] == "domain" else { continue }
            found = words.dropFirst().prefix(DNSLimits.searchDomainsMax)
                .map { $0.lowercased().split(separator: ".").joined(separator: ".") }.filter { !$0.isEmpty }
        }
        return found
    }
}

extension SocketAddress {
    /// Family, address and port as they stand; cannot fail for an address that was parsed.
    init(_ endpoint: IPEndpoint) {
        do {
            try self.init(ipAddress: endpoint.address.description, port: Int(endpoint.port))
        } catch {
            preconditionFailure("\(endpoint) is no socket address: \(error)")
        }
    }
}
