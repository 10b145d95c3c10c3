/// A checked request: its pseudo-headers are complete and every field keeps to the rules.
package struct HTTP2RequestHead: Sendable {
    package let method: String
    /// nil for plain CONNECT.
    package let scheme: String?
    /// `:authority`; nil when the request has none, then `host` says it.
    package let authority: String?
    /// nil for plain CONNECT.
    package let path: String?
    /// `:protocol` of an extended CONNECT (RFC 8441).
    package let `protocol`: String?
    /// Everything, pseudo-headers included.
    package let fields: HTTP2HeaderList

    /// CONNECT to a host and port (RFC 9113 section 8.5).
    package var isPlainConnect: Bool { self.method == "CONNECT" && self.protocol == nil }

    /// - Parameter extendedConnect: we announced SETTINGS_ENABLE_CONNECT_PROTOCOL.
    package init(
        validating fields: HTTP2HeaderList, extendedConnect: Bool = false
    ) throws(HTTP2MalformedMessage) {
        let pseudo = try HTTP2FieldRules.check(fields)
        guard pseudo.status == nil else { throw .unexpectedPseudoHeader(":status") }
        guard let methodAt = pseudo.method else { throw .missingPseudoHeader(":method") }
        let method = fields.value(methodAt)
        guard HTTP2FieldRules.isToken(fields.valueBytes(methodAt)) else { throw .badMethod(method) }
        if pseudo.protocol != nil {
            guard extendedConnect, method == "CONNECT" else { throw .unexpectedPseudoHeader(":protocol") }
        }
        if let at = pseudo.authority, !HTTP2FieldRules.isAuthority(fields.valueBytes(at)) {
            throw .badAuthority(fields.value(at))
        }
        self.method = method
        self.authority = pseudo.authority.map(fields.value)
        self.protocol = pseudo.protocol.map(fields.value)
        self.fields = fields
        if method == "CONNECT", pseudo.protocol == nil {
            guard pseudo.scheme == nil else { throw .unexpectedPseudoHeader(":scheme") }
            guard pseudo.path == nil else { throw .unexpectedPseudoHeader(":path") }
            guard let authority = self.authority else { throw .missingPseudoHeader(":authority") }
            guard Self.hasPort(authority) else { throw .badAuthority(authority) }
            self.scheme = nil
            self.path = nil
        } else {
            self.scheme = try Self.scheme(fields, pseudo)
            self.path = try Self.path(fields, pseudo, method)
        }
        try Self.compareHost(fields, pseudo.authority)
    }

    private static func scheme(
        _ fields: HTTP2HeaderList, _ pseudo: HTTP2FieldRules.PseudoHeaders
    ) throws(HTTP2MalformedMessage) -> String {
        guard let at = pseudo.scheme else { throw .missingPseudoHeader(":scheme") }
        let bytes = fields.valueBytes(at)
        // RFC 3986 section 3.1.
        let isScheme = bytes.enumerated().allSatisfy { offset, byte in
            switch byte | 0x20 {
            case 97...122 where byte >= 65: true
            default: offset > 0 && ((48...57).contains(byte) || byte == 43 || byte == 45 || byte == 46)
            }
        }
        guard isScheme, !bytes.isEmpty else { throw .badScheme(fields.value(at)) }
        return fields.value(at)
    }

    private static func path(
        _ fields: HTTP2HeaderList, _ pseudo: HTTP2FieldRules.PseudoHeaders, _ method: String
    ) throws(HTTP2MalformedMessage) -> String {
        guard let at = pseudo.path else { throw .missingPseudoHeader(":path") }
        let bytes = fields.valueBytes(at)
        let isOrigin = bytes.first == UInt8(ascii: "/")
        let isAsterisk = method == "OPTIONS" && bytes.elementsEqual([UInt8(ascii: "*")])
        // A space or control here would let a request be split by an HTTP/1.1 hop; a fragment is never sent
        // (RFC 9113 section 8.3.1), and what is behind it would be hidden from one hop and not from the next.
        guard isOrigin || isAsterisk, !bytes.contains(where: { $0 <= 32 || $0 == 127 || $0 == UInt8(ascii: "#") })
        else { throw .badPath(fields.value(at)) }
        let path = fields.value(at)
        // Octets that are no UTF-8 would go on as others than they came.
        guard path.utf8.count == bytes.count, path.utf8.elementsEqual(bytes) else { throw .badPath(path) }
        return path
    }

    /// RFC 9113 section 8.3.1: one authority. Several `host` fields are none.
    private static func compareHost(
        _ fields: HTTP2HeaderList, _ authorityAt: Int?
    ) throws(HTTP2MalformedMessage) {
        var seen: ArraySlice<UInt8>? = authorityAt.map(fields.valueBytes)
        var hosts = 0
        for index in 0..<fields.count where fields.hasName(index, "host") {
            hosts += 1
            let host = fields.valueBytes(index)
            guard HTTP2FieldRules.isAuthority(host) else { throw .badAuthority(fields.value(index)) }
            guard hosts == 1, seen.map({ Self.equalIgnoringCase($0, host) }) ?? true else { throw .hostDiffers }
            seen = host
        }
    }

    private static func equalIgnoringCase(_ left: ArraySlice<UInt8>, _ right: ArraySlice<UInt8>) -> Bool {
        func lower(_ byte: UInt8) -> UInt8 { (65...90).contains(byte) ? byte | 0x20 : byte }
        return left.elementsEqual(right) { lower($0) == lower($1) }
    }

    /// `host:port` or `[v6]:port`, port 1 to 65535.
    private static func hasPort(_ authority: String) -> Bool {
        guard let colon = authority.utf8.lastIndex(of: UInt8(ascii: ":")), colon > authority.startIndex else {
            return false
        }
        let digits = authority[authority.index(after: colon)...]
        guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }),
            let port = UInt16(digits), port > 0
        else { return false }
        let host = authority[..<colon].utf8
        if host.first == UInt8(ascii: "[") { return host.last == UInt8(ascii: "]") && host.count > 2 }
        return !host.contains(UInt8(ascii: ":"))
    }
}
