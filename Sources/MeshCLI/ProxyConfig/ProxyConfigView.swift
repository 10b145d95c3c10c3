package import Foundation
package import KubeAPI

/// A part of a waypoint's dump, after a filter: as a table, and as the dump's own items, so that `-o json` loses nothing.
package struct ProxyConfigView: Sendable {
    package let title: String
    package let table: Table
    package let items: [JSONValue]
}

/// What narrows a view; nil: everything. Words are compared without regard to case.
package struct ProxyConfigFilter: Sendable {
    package var fqdn, subset, direction, address, name, cluster, status: String?
    package var port: Int?

    package init() {}

    private static func same(_ wanted: String?, _ value: String) -> Bool {
        wanted.map { $0.lowercased() == value.lowercased() } ?? true
    }

    fileprivate func admits(_ cluster: WaypointDump.Cluster) -> Bool {
        Self.same(self.fqdn, cluster.service.hostname) && Self.same(self.subset, cluster.subset ?? "")
            && Self.same(self.direction, cluster.direction) && (self.port.map { $0 == Int(cluster.port) } ?? true)
    }
    fileprivate func admits(_ endpoint: WaypointDump.Endpoint) -> Bool {
        let parts = endpoint.address.lastIndex(of: ":").map {
            (String(endpoint.address[..<$0]), String(endpoint.address[endpoint.address.index(after: $0)...]))
        }
        return Self.same(self.address, parts?.0 ?? endpoint.address) && Self.same(self.cluster, endpoint.cluster)
            && Self.same(self.status, endpoint.status) && (self.port.map { String($0) == parts?.1 } ?? true)
    }
    fileprivate func admits(_ listener: WaypointDump.Listener) -> Bool {
        Self.same(self.address, listener.address) && Self.same(self.name, listener.name)
            && (self.port.map { $0 == Int(listener.port) } ?? true)
    }
    fileprivate func admits(_ route: WaypointDump.Route) -> Bool { Self.same(self.name, route.name) }
}

/// A dump as it came and as it was understood.
package struct ProxyConfig: Sendable {
    package let dump: WaypointDump
    package let raw: JSONValue

    package init(parsing bytes: [UInt8]) throws {
        self.dump = try WaypointDump(parsing: bytes)
        self.raw = try JSONValue(parsing: bytes)
    }

    /// Both forms of a list, in the dump's order.
    private func pairs<Element>(_ key: String, _ elements: [Element]) -> [(Element, JSONValue)] {
        Array(zip(elements, self.raw[key]?.array ?? []))
    }

    package func clusters(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.pairs("clusters", self.dump.clusters).filter { filter.admits($0.0) }
            .sorted {
                ($0.0.service.hostname, $0.0.port, $0.0.direction) < ($1.0.service.hostname, $1.0.port, $1.0.direction)
            }
        var table = Table(["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"], gap: 5)
        for (cluster, _) in kept {
            table.add([
                cluster.service.hostname, String(cluster.port), cluster.subset ?? "", cluster.direction, cluster.type,
                cluster.destinationRule ?? "",
            ])
        }
        return ProxyConfigView(title: "clusters", table: table, items: kept.map(\.1))
    }

    package func listeners(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.pairs("listeners", self.dump.listeners).filter { filter.admits($0.0) }
        var table = Table(["LISTENER", "CHAIN", "MATCH", "DESTINATION"], gap: 5)
        for (listener, _) in kept {
            let address = listener.address.contains(":") ? "[\(listener.address)]" : listener.address
            if listener.chains ?? [] == [] { table.add([listener.name, "", "\(address):\(listener.port)", ""]) }
            for chain in listener.chains ?? [] {
                table.add([listener.name, chain.name ?? "", chain.match, chain.destination])
            }
        }
        return ProxyConfigView(title: "listeners", table: table, items: kept.map(\.1))
    }

    package func routes(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.pairs("routes", self.dump.routes).filter { filter.admits($0.0) }
        var table = Table(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE", "DESTINATION"], gap: 5)
        for (route, _) in kept {
            let port = route.port.map(String.init) ?? "*"
            table.add([
                route.name, "\(route.service.hostname):\(port)", "*", route.match, route.route ?? "",
                (route.destinations.map(\.words) + (route.filters ?? [])).joined(separator: ", "),
            ])
        }
        return ProxyConfigView(title: "routes", table: table, items: kept.map(\.1))
    }

    package func endpoints(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.pairs("endpoints", self.dump.endpoints).filter { filter.admits($0.0) }
            .sorted { ($0.0.cluster, $0.0.address) < ($1.0.cluster, $1.0.address) }
        var table = Table(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"], gap: 5)
        for (endpoint, _) in kept {
            table.add([endpoint.address, endpoint.status, endpoint.outlier, endpoint.cluster])
        }
        return ProxyConfigView(title: "endpoints", table: table, items: kept.map(\.1))
    }

    /// - Parameter now: what decides whether a certificate is valid.
    package func secrets(now: Date) -> ProxyConfigView {
        var table = Table(
            ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"], gap: 5)
        for certificate in self.dump.certificates {
            let parts =
                (certificate.certChain ?? []).enumerated().map {
                    ($0.offset == 0 ? "Leaf" : "Intermediate", $0.element)
                }
                + (certificate.rootCerts ?? []).map { ("Root", $0) }
            for (type, part) in parts {
                table.add([
                    certificate.identity, type, certificate.state, "\(part.isValid(at: now))", part.hexSerial,
                    part.expirationTime, part.validFrom,
                ])
            }
            if parts.isEmpty { table.add([certificate.identity, "NA", certificate.state, "false", "", "", ""]) }
        }
        return ProxyConfigView(title: "secrets", table: table, items: self.raw["certificates"]?.array ?? [])
    }

    package var bootstrap: ProxyConfigView {
        var table = Table(["NAME", "VALUE"], gap: 5)
        table.add(["waypoint", self.dump.waypoint])
        table.add(["version", self.dump.version])
        table.add(["trafficType", self.dump.trafficType])
        for (name, value) in self.dump.settings.sorted(by: { $0.key < $1.key }) { table.add([name, value]) }
        var document: JSONValue = [:]
        for key in ["waypoint", "version", "trafficType", "settings"] { document[key] = self.raw[key] }
        return ProxyConfigView(title: "bootstrap", table: table, items: [document])
    }
}

extension String {
    /// Of `<namespace>/<hostname>`.
    fileprivate var hostname: String { self.split(separator: "/").last.map(String.init) ?? self }
}

extension WaypointDump.Destination {
    fileprivate var words: String {
        let port = self.port.map { ":\($0)" } ?? ""
        let weight = self.weight.map { " (\($0))" } ?? ""
        return self.service.hostname + port + weight + (self.invalid.map { " refused: \($0)" } ?? "")
    }
}

extension WaypointDump.Certificate.Part {
    func isValid(at now: Date) -> Bool {
        let format = ISO8601DateFormatter()
        guard let from = format.date(from: self.validFrom), let until = format.date(from: self.expirationTime) else {
            return false
        }
        return from <= now && now < until
    }

    /// The decimal serial number in hexadecimal; as it is when it is no number.
    var hexSerial: String {
        guard !self.serialNumber.isEmpty, self.serialNumber.utf8.allSatisfy({ (48...57).contains($0) }) else {
            return self.serialNumber
        }
        // Base 256, the lowest byte first: serial numbers have up to 20 bytes.
        var bytes: [UInt8] = [0]
        for digit in self.serialNumber.utf8 {
            var carry = Int(digit) - 48
            for index in bytes.indices {
                let value = Int(bytes[index]) * 10 + carry
                bytes[index] = UInt8(value & 255)
                carry = value >> 8
            }
            if carry > 0 { bytes.append(UInt8(carry)) }
        }
        return bytes.reversed().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
