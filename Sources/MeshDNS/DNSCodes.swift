/// The type of a record or a question (IANA, DNS parameters).
package struct DNSRecordType: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let a = Self(rawValue: 1)
    package static let ns = Self(rawValue: 2)
    package static let cname = Self(rawValue: 5)
    package static let soa = Self(rawValue: 6)
    package static let ptr = Self(rawValue: 12)
    package static let txt = Self(rawValue: 16)
    package static let aaaa = Self(rawValue: 28)
    package static let srv = Self(rawValue: 33)
    package static let opt = Self(rawValue: 41)
    package static let https = Self(rawValue: 65)
    package static let ixfr = Self(rawValue: 251)
    package static let axfr = Self(rawValue: 252)
    package static let any = Self(rawValue: 255)

    /// Whole zones: the answer is a sequence of messages (RFC 5936, RFC 1995).
    package var isTransfer: Bool { self == .axfr || self == .ixfr }

    /// For metrics: one of a fixed set, so that nobody can make series by asking for types that do not exist.
    package var label: String {
        switch self.rawValue {
        case 1: "A"
        case 2: "NS"
        case 5: "CNAME"
        case 6: "SOA"
        case 12: "PTR"
        case 15: "MX"
        case 16: "TXT"
        case 28: "AAAA"
        case 33: "SRV"
        case 35: "NAPTR"
        case 43: "DS"
        case 48: "DNSKEY"
        case 52: "TLSA"
        case 64: "SVCB"
        case 65: "HTTPS"
        case 251: "IXFR"
        case 252: "AXFR"
        case 255: "ANY"
        case 257: "CAA"
        default: "other"
        }
    }
}

/// The four bits of a header, without EDNS' extension.
package struct DNSResponseCode: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue & 0xf }

    package static let noError = Self(rawValue: 0)
    package static let formatError = Self(rawValue: 1)
    package static let serverFailure = Self(rawValue: 2)
    package static let nameError = Self(rawValue: 3)
    package static let notImplemented = Self(rawValue: 4)
    package static let refused = Self(rawValue: 5)
}

package enum DNSTransport: String, Hashable, Sendable { case udp, tcp }
