package import Foundation
package import KubeAPI

/// A part of a proxy's dump, after a filter: as a table, and as the dump's own items, so that `-o json` loses nothing.
package struct ProxyConfigView: Sendable {
    package let table: Table
    package let items: [JSONValue]

    init(_ table: Table, _ items: [JSONValue]) {
        self.table = table
        // Several rows may come from one item.
        self.items = items.reduce(into: []) { kept, item in if kept.last != item { kept.append(item) } }
    }
}

/// What narrows a view; nil: everything. Words are compared without regard to case.
package struct ProxyConfigFilter: Sendable {
    package var fqdn, subset, direction, address, name, cluster, status: String?
    package var port: Int?

    package init() {}

    private static func same(_ wanted: String?, _ value: String) -> Bool {
        wanted.map { $0.lowercased() == value.lowercased() } ?? true
    }
    private func isPort(_ value: Int?) -> Bool { self.port.map { $0 == value } ?? true }

    func admits(_ cluster: WaypointDump.Cluster) -> Bool {
        Self.same(self.fqdn, cluster.service) && Self.same(self.subset, cluster.subset)
            && Self.same(self.direction, cluster.direction) && self.isPort(cluster.port)
    }
    func admits(_ endpoint: WaypointDump.Endpoint) -> Bool {
        let colon = endpoint.address.lastIndex(of: ":")
        let host = colon.map { String(endpoint.address[..<$0]) } ?? endpoint.address
        let port = colon.flatMap { Int(endpoint.address[endpoint.address.index(after: $0)...]) }
        return Self.same(self.address, host) && Self.same(self.cluster, endpoint.cluster)
            && Self.same(self.status, endpoint.status) && self.isPort(port)
    }
    func admits(_ listener: WaypointDump.Listener) -> Bool {
        (self.address.map { listener.addresses.contains($0) } ?? true) && Self.same(self.name, listener.name)
            && self.isPort(listener.port)
    }
    func admits(_ route: WaypointDump.Route) -> Bool { Self.same(self.name, route.name) }
}

/// What a proxy told about itself, of our making or Envoy's.
protocol ProxyDump: Sendable {
    var raw: JSONValue { get }
    func clusters(_ filter: ProxyConfigFilter) -> ProxyConfigView
    func listeners(_ filter: ProxyConfigFilter) -> ProxyConfigView
    func routes(_ filter: ProxyConfigFilter) -> ProxyConfigView
    func endpoints(_ filter: ProxyConfigFilter) -> ProxyConfigView
    func secrets(now: Date) -> ProxyConfigView
    var bootstrap: ProxyConfigView { get }
}

extension WaypointDump: ProxyDump {
    package func clusters(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.clusters.filter(filter.admits)
            .sorted { ($0.service, $0.port, $0.direction) < ($1.service, $1.port, $1.direction) }
        var table = Table(["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"], gap: 5)
        for cluster in kept {
            table.add([
                cluster.service, String(cluster.port), cluster.subset, cluster.direction, cluster.type,
                cluster.destinationRule,
            ])
        }
        return ProxyConfigView(table, kept.map(\.item))
    }

    package func listeners(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.listeners.filter(filter.admits)
        var table = Table(["LISTENER", "CHAIN", "MATCH", "DESTINATION"], gap: 5)
        for listener in kept {
            let match = ([listener.addresses.joined(separator: ",")] + [":\(listener.port)"]).joined()
            table.add([
                listener.name, listener.service ?? "", "\(match) (\(listener.kind))", listener.destination,
            ])
        }
        return ProxyConfigView(table, kept.map(\.item))
    }

    package func routes(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.routes.filter(filter.admits)
        var table = Table(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE", "DESTINATION"], gap: 5)
        for route in kept {
            table.add([
                route.name, "\(route.service):\(route.port.map(String.init) ?? "*")", "*", route.match, route.object,
                route.destination,
            ])
        }
        return ProxyConfigView(table, kept.map(\.item))
    }

    package func endpoints(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let kept = self.endpoints.filter(filter.admits)
            .sorted { ($0.cluster, $0.address) < ($1.cluster, $1.address) }
        var table = Table(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"], gap: 5)
        for endpoint in kept { table.add([endpoint.address, endpoint.status, endpoint.outlier, endpoint.cluster]) }
        return ProxyConfigView(table, kept.map(\.item))
    }

    /// - Parameter now: what decides whether a certificate is valid.
    package func secrets(now: Date) -> ProxyConfigView {
        var table = Table(
            ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"], gap: 5)
        for certificate in self.certificates {
            table.add([
                certificate.identity, certificate.type, certificate.state, "\(certificate.isValid(at: now))",
                certificate.hexSerial, certificate.expirationTime, certificate.validFrom,
            ])
        }
        return ProxyConfigView(table, self.raw["secrets"]?.array ?? [])
    }

    package var bootstrap: ProxyConfigView {
        var table = Table(["NAME", "VALUE"], gap: 5)
        table.add(["waypoint", self.waypoint ?? "not known yet"])
        table.add(["trafficType", self.trafficType ?? "not known yet"])
        table.add(["version", self.version])
        for (name, value) in (self.settings.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            table.add([name, value.string ?? String(decoding: value.encoded, as: UTF8.self)])
        }
        var document: JSONValue = [:]
        for key in ["waypoint", "version", "config"] { document[key] = self.raw[key] }
        return ProxyConfigView(table, [document])
    }
}

extension WaypointDump.Certificate {
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
