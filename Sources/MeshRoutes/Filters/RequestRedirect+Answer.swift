import MeshHTTP

extension RequestRedirect {
    /// The answer that sends the client elsewhere, without a body.
    ///
    /// Port (HTTPRequestRedirectFilter.port): the one that is given; else, with a scheme given, that scheme's own; else
    /// the port that the request came to. It is left out of the Location when it is the one that its scheme implies.
    ///
    /// - Parameters:
    ///   - servicePort: which the request was sent to: the mesh's counterpart of a listener's port.
    ///   - prefixBytes: ``MatchedRule/prefixBytes``.
    package func answer(to request: RequestHead, servicePort: UInt16, prefixBytes: Int?) -> ResponseHead {
        let scheme = self.scheme ?? request.scheme
        let wellKnown = Self.wellKnownPort(scheme)
        let port = self.port ?? (self.scheme == nil ? servicePort : wellKnown ?? servicePort)
        var location = "\(scheme)://\(self.hostname ?? String(Self.host(request.authority)))"
        if port != wellKnown { location += ":\(port)" }
        location += self.path?.apply(to: request.path, prefixBytes: prefixBytes) ?? request.path
        return ResponseHead(status: self.status, fields: ["location": location, "content-length": "0"])
    }

    private static func wellKnownPort(_ scheme: String) -> UInt16? {
        switch scheme {
        case "http": 80
        case "https": 443
        default: nil
        }
    }

    /// Without its port; the brackets of an IPv6 address stay.
    static func host(_ authority: String) -> Substring {
        let octets = authority.utf8
        guard let colon = octets.lastIndex(of: UInt8(ascii: ":")),
            octets[octets.index(after: colon)...].allSatisfy({ (48...57).contains($0) })
        else { return authority[...] }
        // In `[2001:db8::1]` the last colon is the address's own.
        if octets.first == UInt8(ascii: "["), octets[..<colon].last != UInt8(ascii: "]") { return authority[...] }
        return authority[..<colon]
    }
}
