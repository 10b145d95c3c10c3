/// A checked response: one status and fields that keep to the rules.
package struct HTTP2ResponseHead: Sendable {
    /// 100 to 599, never 101, which HTTP/2 does not have (RFC 9113 section 8.6).
    package let status: Int
    /// Everything, `:status` included.
    package let fields: HTTP2HeaderList

    /// 1xx: another head follows on the stream.
    package var isInformational: Bool { self.status < 200 }
    /// 2xx: a CONNECT became a tunnel.
    package var isSuccess: Bool { self.status / 100 == 2 }

    package init(validating fields: HTTP2HeaderList) throws(HTTP2MalformedMessage) {
        let pseudo = try HTTP2FieldRules.check(fields)
        for (at, name) in [
            (pseudo.method, ":method"), (pseudo.scheme, ":scheme"), (pseudo.authority, ":authority"),
            (pseudo.path, ":path"), (pseudo.protocol, ":protocol"),
        ] where at != nil {
            throw .unexpectedPseudoHeader(name)
        }
        guard let at = pseudo.status else { throw .missingPseudoHeader(":status") }
        let digits = fields.valueBytes(at)
        guard digits.count == 3, digits.allSatisfy({ (48...57).contains($0) }) else {
            throw .badStatus(fields.value(at))
        }
        self.status = digits.reduce(0) { $0 * 10 + Int($1) - 48 }
        guard (100...599).contains(self.status), self.status != 101 else { throw .badStatus(fields.value(at)) }
        self.fields = fields
    }

    /// A response head of its status alone: the usual answer to CONNECT. One octet for the statuses of the static
    /// table (200, 204, 206, 304, 400, 404, 500).
    package static func appendStatus(_ status: Int, _ encoder: inout HPACKEncoder, to block: inout [UInt8]) {
        precondition((100...599).contains(status))
        encoder.append(":status", String(status), .table, to: &block)
    }
}
