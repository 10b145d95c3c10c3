import MeshHTTP

/// What ``CORSPolicy`` says about one request.
package enum CORSDecision: Sendable {
    /// No cross-origin request, or one that the browser will not let see the answer: serve it as it is. What a server
    /// says itself about sharing is removed all the same, see ``CORSPolicy/apply(to:origin:)``.
    case serve(origin: String?)
    /// A preflight: this is the answer, no server is asked.
    case answer(ResponseHead)
}

extension CORSPolicy {
    /// Of CORS, in answers.
    private static let answerFields: [String] = [
        "access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods",
        "access-control-allow-headers", "access-control-expose-headers", "access-control-max-age",
    ]

    /// HTTPCORSFilter of the standard, over the Fetch standard's protocol. Where the filter may answer with `*` or with
    /// the origin, it answers with the origin: right with credentials and without.
    package func decide(_ request: RequestHead) -> CORSDecision {
        guard let origin = request.fields.value(named: "origin") else { return .serve(origin: nil) }
        let allowed = self.allows(origin) ? origin : nil
        guard request.method == "OPTIONS",
            let method = request.fields.value(named: "access-control-request-method")
        else { return .serve(origin: allowed) }
        var response = ResponseHead(status: 200, fields: ["content-length": "0", "vary": "origin"])
        guard let allowed else { return .answer(response) }
        self.appendOrigin(allowed, to: &response.fields)
        if let methods = self.list(self.allowMethods, asked: method) {
            response.fields.append("access-control-allow-methods", methods)
        }
        let headers = request.fields.value(named: "access-control-request-headers")
        if let headers = self.list(self.allowHeaders, asked: headers) {
            response.fields.append("access-control-allow-headers", headers)
        }
        self.appendExposed(to: &response.fields)
        response.fields.append("access-control-max-age", String(self.maxAgeSeconds))
        return .answer(response)
    }

    /// For the response to a request that was served.
    /// - Parameter origin: of ``CORSDecision/serve(origin:)``; nil takes away what the server said about sharing.
    package func apply(to response: inout ResponseHead, origin: String?) {
        for name in Self.answerFields { response.fields.remove(named: name) }
        response.fields.append("vary", "origin")
        guard let origin else { return }
        self.appendOrigin(origin, to: &response.fields)
        self.appendExposed(to: &response.fields)
    }

    private func appendOrigin(_ origin: String, to fields: inout HTTP2HeaderList) {
        fields.append("access-control-allow-origin", origin)
        if self.allowCredentials { fields.append("access-control-allow-credentials", "true") }
    }

    private func appendExposed(to fields: inout HTTP2HeaderList) {
        // With credentials a browser takes `*` for a name.
        let names = self.allowCredentials ? self.exposeHeaders.filter { $0 != "*" } : self.exposeHeaders
        if !names.isEmpty { fields.append("access-control-expose-headers", names.joined(separator: ", ")) }
    }

    /// With credentials `*` is not `*` but what the client asked for.
    private func list(_ values: [String], asked: String?) -> String? {
        if values.isEmpty { return nil }
        if values.contains("*") { return self.allowCredentials ? asked : "*" }
        return values.joined(separator: ", ")
    }

    // MARK: Origins

    private func allows(_ origin: String) -> Bool {
        // Browsers write other letters in ASCII; lower-casing here must not make one of theirs ours.
        origin.utf8.allSatisfy { $0 < 0x80 } && self.allowOrigins.contains { $0 == "*" || Self.matches($0, origin) }
    }

    /// `<scheme>://<host>[:<port>]`; a missing port is the scheme's own; `*` in the host stands for any text, dots
    /// included, but not for nothing.
    private static func matches(_ pattern: String, _ origin: String) -> Bool {
        guard let wanted = Self.parts(pattern), let given = Self.parts(origin), wanted.scheme == given.scheme,
            wanted.port == given.port
        else { return false }
        let text = wanted.host.utf8
        guard let star = text.firstIndex(of: UInt8(ascii: "*")) else { return text.elementsEqual(given.host.utf8) }
        let (before, after) = (text[..<star], text[text.index(after: star)...])
        let host = given.host.utf8
        return host.count > before.count + after.count && host.starts(with: before)
            && host.suffix(after.count).elementsEqual(after)
    }

    private static func parts(_ origin: String) -> (scheme: String, host: Substring, port: Substring)? {
        let lower = origin.lowercased()
        for (scheme, port) in [("http", "80"), ("https", "443")] where lower.hasPrefix(scheme + "://") {
            let rest = String(lower.dropFirst(scheme.utf8.count + 3))
            let host = RequestRedirect.host(rest)
            guard !host.isEmpty else { return nil }
            let given = rest.utf8.count > host.utf8.count ? rest[host.endIndex...].dropFirst() : Substring(port)
            return (scheme, host, given)
        }
        return nil
    }
}
