/// What is asked (RFC 1035 section 4.1.2). Class IN is the only class we know.
package struct DNSQuestion: Hashable, Sendable {
    package var name: DNSName
    package var type: DNSType
    package init(_ name: DNSName, _ type: DNSType) {
        self.name = name
        self.type = type
    }
}

package struct DNSType: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let a = DNSType(rawValue: 1)
    package static let ns = DNSType(rawValue: 2)
    package static let cname = DNSType(rawValue: 5)
    package static let soa = DNSType(rawValue: 6)
    package static let ptr = DNSType(rawValue: 12)
    package static let aaaa = DNSType(rawValue: 28)
    package static let srv = DNSType(rawValue: 33)
    package static let opt = DNSType(rawValue: 41)
    package static let any = DNSType(rawValue: 255)
}

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

    package var type: DNSType {
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
}

package struct DNSResponseCode: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
    package static let noError = DNSResponseCode(rawValue: 0)
    package static let formatError = DNSResponseCode(rawValue: 1)
    package static let serverFailure = DNSResponseCode(rawValue: 2)
    package static let nameError = DNSResponseCode(rawValue: 3)
    package static let notImplemented = DNSResponseCode(rawValue: 4)
    package static let refused = DNSResponseCode(rawValue: 5)
}

/// A query as a client sends it, one question.
package struct DNSQuery: Hashable, Sendable {
    package var id: UInt16
    package var recursionDesired: Bool
    package var question: DNSQuestion
    /// Bytes that the client takes over UDP: 512, or what its EDNS record says (RFC 6891). Nil without EDNS.
    package var payloadBytes: UInt16?

    package init(id: UInt16, recursionDesired: Bool = true, question: DNSQuestion, payloadBytes: UInt16? = nil) {
        self.id = id
        self.recursionDesired = recursionDesired
        self.question = question
        self.payloadBytes = payloadBytes
    }
}

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
