import MeshHTTP
import MeshModel

/// What policies are asked about: a request, or a stream of which only its peer is known.
struct GateQuestion {
    let peer: PeerFacts
    let request: RequestHead?
    let remote: IPAddress
    let token: VerifiedToken?

    func has(_ attribute: GateAttribute, _ values: [ValueTest], isLoose: Bool) -> Bool {
        let connection = self.peer.connection
        switch attribute {
        case .principal: return Self.has(self.peer.principal, values)
        case .namespace: return Self.has(connection.identity?.namespace ?? "", values)
        case .trustDomain: return Self.has(connection.identity?.trustDomain ?? "", values)
        case .serviceAccount:
            guard let identity = connection.identity else { return false }
            return values.contains {
                if case .serviceAccount(let account) = $0 {
                    account.namespace == identity.namespace && account.serviceAccount == identity.serviceAccount
                } else {
                    false
                }
            }
        case .sourceIP: return Self.has(connection.source, values)
        case .remoteIP: return Self.has(self.remote, values)
        case .destinationIP: return Self.has(connection.destination.address, values)
        case .destinationPort:
            return values.contains {
                if case .port(let port) = $0 { port == connection.destination.port } else { false }
            }
        case .serverName: return Self.has(self.peer.serverName, values)
        case .requestPrincipal: return Self.has(self.token?.principal ?? "", values)
        case .audiences: return self.token?.audiences.contains { Self.has($0, values) } ?? false
        case .presenter: return Self.has(self.token?.presenter ?? "", values)
        case .claim(let path):
            return self.token?.claims[path]?.contains { Self.has($0, values) } ?? false
        case .method: return Self.has(self.request?.method ?? "", values)
        case .host: return self.hasHost(values, isLoose)
        case .path: return self.hasPath(values)
        case .header(let name): return self.hasHeader(name, values, isLoose)
        }
    }

    private static func has(_ text: String, _ values: [ValueTest]) -> Bool {
        let span = text.utf8.span
        return Self.has(span, 0..<span.count, values)
    }

    private static func has(_ text: Span<UInt8>, _ range: Range<Int>, _ values: [ValueTest]) -> Bool {
        for value in values {
            if case .text(let pattern) = value, pattern.matches(text, range) { return true }
        }
        return false
    }

    private static func has(_ address: IPAddress, _ values: [ValueTest]) -> Bool {
        for value in values {
            if case .block(let block) = value, block.contains(address) { return true }
        }
        return false
    }

    /// As the client wrote it; loosely also without its port, and without the dot at a name's end.
    private func hasHost(_ values: [ValueTest], _ isLoose: Bool) -> Bool {
        guard let request = self.request else { return false }
        if Self.has(request.authority, values) { return true }
        guard isLoose else { return false }
        var host = RequestRedirect.host(request.authority)
        if host.utf8.last == UInt8(ascii: ".") { host = host.dropLast() }
        let span = request.authority.utf8.span
        return Self.has(span, 0..<host.utf8.count, values)
    }

    private func hasPath(_ values: [ValueTest]) -> Bool {
        guard let request = self.request else { return false }
        let target = request.path.utf8.span
        let end = RequestPath.pathBytes(target)
        for value in values {
            switch value {
            case .text(let pattern): if pattern.matches(target, 0..<end) { return true }
            case .template(let template): if template.matches(target, end) { return true }
            case .block, .port, .serviceAccount: break
            }
        }
        return false
    }

    /// All values of the name as one; loosely also each of them. Presence is the field's, even when it is empty.
    private func hasHeader(_ name: String, _ values: [ValueTest], _ isLoose: Bool) -> Bool {
        guard let request = self.request else { return false }
        if name == "host" || name == ":authority" { return self.hasHost(values, isLoose) }
        let fields = request.fields
        guard let first = fields.firstIndex(named: name) else { return false }
        for value in values { if case .text(let pattern) = value, pattern.isPresence { return true } }
        let only = fields.valueBytes(first).span
        guard fields.firstIndex(named: name, from: first + 1) != nil else {
            return Self.has(only, 0..<only.count, values)
        }
        let joined = fields.joinedValue(bytes: Array(name.utf8), from: first)
        if Self.has(joined.span, 0..<joined.count, values) { return true }
        guard isLoose else { return false }
        for index in first..<fields.count where fields.hasName(index, text: name) {
            let each = fields.valueBytes(index).span
            if Self.has(each, 0..<each.count, values) { return true }
        }
        return false
    }
}
