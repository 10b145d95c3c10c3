package import MeshHTTP
import MeshIdentity
package import MeshModel
package import MeshPolicy

/// Who is at the other end of a connection, as policies ask about it. Made once for a connection.
package struct PeerFacts: Sendable {
    /// Its destination is the service's address and port: at a waypoint `ports` are the service's.
    package let connection: ConnectionFacts
    /// `connection.sni`; the empty text when there is none.
    package let serverName: String
    /// The identity without `spiffe://`; the empty text without identity.
    let principal: String

    package init(_ connection: ConnectionFacts, serverName: String = "") {
        self.connection = connection
        self.serverName = serverName
        self.principal = connection.identity?.principal ?? ""
    }

    /// The client behind proxies that can be trusted: an entry of `x-forwarded-for`, counted from the end.
    ///
    /// - Parameter trustedProxies: between the client and the peer. 0: the peer itself wrote the last entry, as it does
    ///   for Istio's waypoints. With fewer entries, or an entry that is no address, the peer is the client.
    package func remoteAddress(_ fields: HTTP2HeaderList, trustedProxies: Int = 0) -> IPAddress {
        var left = trustedProxies
        var index = fields.count - 1
        while index >= 0 {
            if fields.hasName(index, "x-forwarded-for") {
                for entry in fields.valueBytes(index).split(separator: UInt8(ascii: ",")).reversed() {
                    if left == 0 {
                        let text = String(decoding: entry.filter { $0 != 32 && $0 != 9 }, as: UTF8.self)
                        return IPAddress(text) ?? IPEndpoint(text)?.address ?? self.connection.source
                    }
                    left -= 1
                }
            }
            index -= 1
        }
        return self.connection.source
    }
}

/// A JSON value of a token, as policies see it: numbers and booleans are their text.
package indirect enum ClaimValue: Hashable, Sendable {
    case text(String)
    case list([ClaimValue])
    case object([String: ClaimValue])

    package subscript(path: some Collection<String>) -> ClaimValue? {
        var value = self
        for name in path {
            guard case .object(let members) = value, let next = members[name] else { return nil }
            value = next
        }
        return value
    }

    /// The value's text, or any text of a list.
    func contains(where test: (String) -> Bool) -> Bool {
        switch self {
        case .text(let text): test(text)
        case .list(let values): values.contains { $0.contains(where: test) }
        case .object: false
        }
    }
}

/// What a verified token says.
package struct VerifiedToken: Hashable, Sendable {
    /// `<issuer>/<subject>`; the empty text when one of them is missing.
    package let principal: String
    package let audiences: [String]
    /// `azp`.
    package let presenter: String
    /// An object.
    package let claims: ClaimValue

    package init(principal: String, audiences: [String], presenter: String, claims: ClaimValue) {
        self.principal = principal
        self.audiences = audiences
        self.presenter = presenter
        self.claims = claims
    }
}
