/// What a client brings back so that it reaches the same endpoint again: the value of a session's cookie or header.
///
/// 22 characters, base64url of 16 octets: a hash of the endpoint's id, and when the session began and was last used. It
/// tells the client nothing about the pod, says the same at every replica of a waypoint, and can at worst be made up to
/// choose another endpoint of the same service.
package struct SessionTag: Hashable, Sendable {
    package static let characters = 22

    /// Compare with ``hash(of:)`` of the endpoints.
    package var endpoint: UInt64
    /// In seconds since 1970.
    package var began: UInt32
    package var used: UInt32

    package init(endpoint: UInt64, began: UInt32, used: UInt32) {
        self.endpoint = endpoint
        self.began = began
        self.used = used
    }

    /// Of an endpoint's id, the workload's uid; the same in every process and version.
    package static func hash(of endpointID: String) -> UInt64 { StableHash.of(endpointID.utf8) }

    /// nil for anything that is none of ours.
    package init?(_ text: String) {
        guard text.utf8.count == Self.characters, let octets = Base64URL.decode(text.utf8.span, 0..<Self.characters),
            octets.count == 16
        else { return nil }
        func number(_ range: Range<Int>) -> UInt64 { octets[range].reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(endpoint: number(0..<8), began: UInt32(number(8..<12)), used: UInt32(number(12..<16)))
    }

    package var text: String {
        var octets: [UInt8] = []
        for shift in stride(from: 56, through: 0, by: -8) {
            octets.append(UInt8(truncatingIfNeeded: self.endpoint >> shift))
        }
        for number in [self.began, self.used] {
            for shift in stride(from: 24, through: 0, by: -8) {
                octets.append(UInt8(truncatingIfNeeded: number >> shift))
            }
        }
        return Base64URL.encode(octets)
    }
}

extension SessionPersistence {
    /// The session that a request belongs to; nil: it begins one.
    /// - Parameter now: seconds since 1970.
    package func session(of request: RequestHead, now: UInt32) -> SessionTag? {
        let text =
            switch self.kind {
            case .cookie: CookieField.value(named: self.name, in: request.fields)
            case .header: request.fields.value(named: self.name)
            }
        guard let tag = text.flatMap({ SessionTag($0) }) else { return nil }
        if let absolute = self.absoluteTimeout, now > tag.began, now - tag.began >= Self.seconds(absolute) {
            return nil
        }
        if let idle = self.idleTimeout, now > tag.used, now - tag.used >= Self.seconds(idle) { return nil }
        return tag
    }

    /// Tells the client where it was served, when it has to know: at a session's first response, and with an idle timeout
    /// at each one.
    ///
    /// - Parameters:
    ///   - session: of the request, nil when it had none.
    ///   - endpoint: ``SessionTag/hash(of:)`` of the one that served.
    ///   - path: for the cookie; the route's prefix, or `/`.
    package func apply(
        to response: inout ResponseHead, session: SessionTag?, endpoint: UInt64, now: UInt32, path: String,
        isSecure: Bool
    ) {
        if let session, session.endpoint == endpoint, self.idleTimeout == nil { return }
        // A session that had to move keeps its age: the absolute timeout is the session's, not the endpoint's.
        let began = session?.began ?? now
        let text = SessionTag(endpoint: endpoint, began: began, used: now).text
        switch self.kind {
        case .header: response.fields.replace(self.name, text)
        case .cookie:
            var cookie = "\(self.name)=\(text); Path=\(path); HttpOnly"
            if self.isPermanentCookie, let absolute = self.absoluteTimeout {
                let age = now > began ? now - began : 0
                let lifetime = Self.seconds(absolute)
                cookie += "; Max-Age=\(lifetime > age ? lifetime - age : 0)"
            }
            if isSecure { cookie += "; Secure" }
            response.fields.append("set-cookie", cookie)
        }
    }

    private static func seconds(_ duration: Duration) -> UInt32 {
        UInt32(clamping: duration.components.seconds)
    }
}
