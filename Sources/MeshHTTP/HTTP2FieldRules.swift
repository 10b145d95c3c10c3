/// What every field of an HTTP/2 message must keep to (RFC 9113 sections 8.2 and 8.3), for requests, responses and
/// trailers alike. Anything looser lets a message mean two things to two hops.
package enum HTTP2FieldRules {
    /// The pseudo-headers of one section, as indexes into its list.
    struct PseudoHeaders {
        var method, scheme, authority, path, `protocol`, status: Int?

        fileprivate mutating func take(_ index: Int, of list: HTTP2HeaderList) throws(HTTP2MalformedMessage) {
            // Told apart by length first: this runs for every field that begins with a colon.
            switch list.nameBytes(index).count {
            case 5 where list.hasName(index, ":path"): try Self.set(&self.path, index, list)
            case 7 where list.hasName(index, ":method"): try Self.set(&self.method, index, list)
            case 7 where list.hasName(index, ":scheme"): try Self.set(&self.scheme, index, list)
            case 7 where list.hasName(index, ":status"): try Self.set(&self.status, index, list)
            case 9 where list.hasName(index, ":protocol"): try Self.set(&self.protocol, index, list)
            case 10 where list.hasName(index, ":authority"): try Self.set(&self.authority, index, list)
            default: throw .unknownPseudoHeader(list.name(index))
            }
        }

        private static func set(
            _ place: inout Int?, _ index: Int, _ list: HTTP2HeaderList
        ) throws(HTTP2MalformedMessage) {
            guard place == nil else { throw .repeatedPseudoHeader(list.name(index)) }
            place = index
        }
    }

    /// Checks every field and finds the pseudo-headers, which must come first and once.
    static func check(_ list: HTTP2HeaderList) throws(HTTP2MalformedMessage) -> PseudoHeaders {
        guard !list.isTruncated else { throw .truncated }
        var pseudo = PseudoHeaders()
        var seenField = false
        for index in 0..<list.count {
            let name = list.nameBytes(index)
            guard self.isValue(list.valueBytes(index)) else { throw .badValue(name: list.name(index)) }
            if name.first == UInt8(ascii: ":") {
                guard !seenField else { throw .pseudoHeaderAfterField(list.name(index)) }
                try pseudo.take(index, of: list)
                continue
            }
            seenField = true
            guard self.isLowercaseToken(name) else { throw .badName(list.name(index)) }
            try self.refuseConnectionHeader(index, of: list)
        }
        return pseudo
    }

    /// Trailers: ordinary fields only.
    package static func checkTrailers(_ list: HTTP2HeaderList) throws(HTTP2MalformedMessage) {
        _ = try self.check(list)
        if list.count > 0, list.nameBytes(0).first == UInt8(ascii: ":") {
            throw .unexpectedPseudoHeader(list.name(0))
        }
    }

    private static let connectionHeaders: [StaticString] = [
        "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade",
    ]

    private static func refuseConnectionHeader(
        _ index: Int, of list: HTTP2HeaderList
    ) throws(HTTP2MalformedMessage) {
        for name in self.connectionHeaders where list.hasName(index, name) {
            throw .connectionHeader(list.name(index))
        }
        if list.hasName(index, "te"), !list.valueBytes(index).elementsEqual("trailers".utf8) {
            throw .connectionHeader("te")
        }
    }

    /// The message's content-length; nil when there is none. Several equal ones count as one.
    package static func contentLength(_ list: HTTP2HeaderList) throws(HTTP2MalformedMessage) -> Int? {
        var length: Int?
        for index in 0..<list.count where list.hasName(index, "content-length") {
            let digits = list.valueBytes(index)
            guard !digits.isEmpty, digits.allSatisfy({ (48...57).contains($0) }),
                let value = Int(list.value(index)), length == nil || length == value
            else { throw .badContentLength(list.value(index)) }
            length = value
        }
        return length
    }

    /// RFC 9110 section 5.6.2, without upper case.
    @inline(__always)
    static func isLowercaseToken(_ bytes: ArraySlice<UInt8>) -> Bool {
        self.isToken(bytes) && !bytes.contains { (65...90).contains($0) }
    }

    static func isToken(_ bytes: ArraySlice<UInt8>) -> Bool {
        !bytes.isEmpty
            && bytes.allSatisfy { byte in
                switch byte {
                case 48...57, 65...90, 94...122, 33, 35...39, 42, 43, 45, 46, 124, 126: true
                default: false
                }
            }
    }

    /// No controls but tabs, and no space or tab at either end. RFC 9113 section 8.2.1 asks only for no NUL, CR and LF,
    /// but RFC 9110 section 5.5 has no others either, and there are HTTP/1 servers for which they end a line.
    @inline(__always)
    static func isValue(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard let first = bytes.first, let last = bytes.last else { return true }
        return first != 32 && first != 9 && last != 32 && last != 9
            && !bytes.contains { ($0 < 32 && $0 != 9) || $0 == 127 }
    }

    /// Visible ASCII without the characters that would end an authority or hide what comes before (`@`).
    static func isAuthority(_ bytes: ArraySlice<UInt8>) -> Bool {
        !bytes.isEmpty
            && bytes.allSatisfy { byte in
                switch byte {
                // # / ? @ \ and the quotes and brackets that no URI has
                case 34, 35, 47, 60, 62, 63, 64, 92, 94, 96, 123...125: false
                case 33...126: true
                default: false
                }
            }
    }
}
