package import MeshModel

/// `forwarded` (RFC 7239): on whose behalf a tunnel is opened.
package enum Forwarded {
    /// `for="10.0.0.1:4711";host=web.shop.svc.cluster.local`
    package static func text(client: IPEndpoint, host: String?) -> String {
        "for=\"\(client)\"" + (host.map { ";host=\($0)" } ?? "")
    }

    /// The `host` parameter, without quotes; nil when it is missing, empty, or the header is not ASCII.
    package static func host(in headers: [(name: String, value: String)]) -> String? {
        guard let header = headers.first(where: { $0.name == "forwarded" }),
            header.value.utf8.count <= 1024, header.value.utf8.allSatisfy({ $0 < 0x80 })
        else { return nil }
        for part in header.value.split(whereSeparator: { $0 == ";" || $0 == "," }) {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2, pair[0].filter({ $0 != " " }).lowercased() == "host" else { continue }
            var value = pair[1]
            while value.last == " " { value = value.dropLast() }
            if value.first == "\"", value.last == "\"", value.count > 1 { value = value.dropFirst().dropLast() }
            return value.isEmpty ? nil : String(value)
        }
        return nil
    }
}

/// `traceparent` (W3C Trace Context): links the log lines of the two sides of a tunnel.
package enum TraceParent {
    /// `00-<32 hex>-<16 hex>-00`, fresh and never all zero.
    package static func fresh(using random: inout some RandomNumberGenerator) -> String {
        var text: [UInt8] = Array("00-".utf8)
        text.reserveCapacity(55)
        Self.append(random.next(), to: &text)
        Self.append(random.next() | 1, to: &text)
        text.append(UInt8(ascii: "-"))
        Self.append(random.next() | 1, to: &text)
        text += "-00".utf8
        return String(decoding: text, as: UTF8.self)
    }

    private static func append(_ number: UInt64, to text: inout [UInt8]) {
        for shift in stride(from: 60, through: 0, by: -4) {
            let digit = UInt8(number >> UInt64(shift) & 15)
            text.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
        }
    }
}

/// What a CONNECT request asks for.
package enum Authority: Hashable, Sendable {
    case address(IPEndpoint)
    case host(String, port: UInt16)

    /// 253 of a DNS name, a colon, five digits.
    static let bytesMax = 259

    /// `ip:port`, else `host:port`; the port is never optional.
    package init?(_ text: String) {
        guard text.utf8.count <= Self.bytesMax else { return nil }
        if let address = IPEndpoint(text) {
            self = .address(address)
            return
        }
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let digits = text[text.index(after: colon)...]
        let host = text[..<colon]
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits), !host.isEmpty,
            // Letters, digits, dots, dashes, underscores and the star: what a service's host name can have.
            host.utf8.allSatisfy({
                (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
                    || $0 == 0x2e || $0 == 0x2d || $0 == 0x5f || $0 == 0x2a
            })
        else { return nil }
        self = .host(String(host), port: port)
    }
}
