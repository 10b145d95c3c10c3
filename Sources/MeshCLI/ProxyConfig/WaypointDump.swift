package import KubeAPI

/// What a waypoint process answers to `GET /config_dump` on its admin port 15000, as `martlet proxy-config` understands it.
///
/// The shape is ours; docs/cli.md shows an example. A list that is missing is empty, and members that this program does not
/// know are skipped, so that a client and a waypoint of different versions understand each other. Everything keeps the
/// item of the dump that it comes from.
package struct WaypointDump: Sendable {
    package let raw: JSONValue
    /// `<namespace>/<name>` of the Gateway; nil while the process does not know the mesh yet.
    package var waypoint: String? { self.raw.at("waypoint", "name")?.string }
    package var version: String { self.raw["version"]?.string ?? "unknown" }
    /// `service`, `workload`, `all` or `none`; nil as above.
    package var trafficType: String? { self.raw.at("waypoint", "trafficType")?.string }
    /// The settings in force.
    package var settings: JSONValue { self.raw["config"] ?? [:] }

    package struct Listener: Sendable {
        package let item: JSONValue
        package let name: String
        /// `<hostname>:<port>`; nil for the port itself that everything arrives at.
        package let service: String?
        package let addresses: [String]
        package let port: Int
        /// How bytes are read: `http1`, `tcp` ...
        package let kind: String
        package let destination: String
    }

    /// One match of one rule.
    package struct Route: Sendable {
        package let item: JSONValue
        /// `<namespace>/<route>/<name of the rule, or its number from 0>`
        package let name: String
        package let service: String
        /// Nil: every port of the service.
        package let port: Int?
        package let match: String
        /// `HTTPRoute/<namespace>/<name>`
        package let object: String
        package let destination: String
    }

    package struct Cluster: Sendable {
        package let item: JSONValue
        package let service: String
        package let port: Int
        package let subset, direction, type, destinationRule: String
    }

    package struct Endpoint: Sendable {
        package let item: JSONValue
        package let address, status, outlier, cluster: String
    }

    /// A certificate of a chain, or with nothing to show an identity without one.
    package struct Certificate: Sendable {
        package let identity, type, state: String
        /// Decimal.
        package let serialNumber: String
        /// RFC 3339.
        package let validFrom, expirationTime: String
    }

    /// - Throws: ``CommandError``, also for the dump of another program, which it names.
    package init(parsing bytes: [UInt8]) throws {
        guard let raw = try? JSONValue(parsing: bytes), raw.object != nil else {
            throw CommandError("this is no dump of a waypoint: it is no JSON object")
        }
        if raw["workloads"] != nil || raw["workloadState"] != nil {
            throw CommandError(
                "this is the dump of a node proxy, not of a waypoint; look at it with: martlet ztunnel-config")
        }
        if raw["configs"] != nil {
            throw CommandError("this is the dump of an Envoy, not of our waypoint; read it with istioctl proxy-config")
        }
        guard raw["waypoint"]?.object != nil else {
            throw CommandError("this is no dump of a waypoint: it has no member \"waypoint\"")
        }
        self.raw = raw
    }

    private func items(_ list: String) -> [JSONValue] { self.raw[list]?.array ?? [] }

    /// The host of `<namespace>/<hostname>`.
    private static func host(_ key: JSONValue?) -> String {
        let text = key?.string ?? ""
        return text.split(separator: "/").last.map(String.init) ?? text
    }

    package var listeners: [Listener] {
        self.items("listeners").map { item in
            let port = item["port"]?.int.map(Int.init) ?? 0
            guard item["service"] != nil else {
                return Listener(
                    item: item, name: item["name"]?.string ?? "", service: nil, addresses: [], port: port,
                    kind: item["protocol"]?.string ?? "", destination: "")
            }
            let isRouted = self.items("routes").contains {
                $0["service"] == item["service"] && ($0["port"]?.int.map { Int($0) == port } ?? true)
            }
            let closed = item.at("policies", "closedBecause")?.string
            return Listener(
                item: item, name: "hbone", service: "\(Self.host(item["service"])):\(port)",
                addresses: item["addresses"]?.array?.compactMap(\.string) ?? [], port: port,
                kind: item["protocol"]?.string ?? "",
                destination: closed.map { "refused: \($0)" } ?? (isRouted ? "routes" : "endpoints"))
        }
    }

    package var routes: [Route] {
        self.items("routes").flatMap { item -> [Route] in
            let name = item["name"]?.string ?? ""
            func route(_ rule: String, _ match: String, _ destination: String) -> Route {
                Route(
                    item: item, name: rule, service: Self.host(item["service"]),
                    port: item["port"]?.int.map(Int.init), match: match,
                    object: "\(item["kind"]?.string ?? "Route")/\(name)", destination: destination)
            }
            guard let rules = item["rules"]?.array else {
                let names = item["serverNames"]?.array?.compactMap(\.string) ?? []
                return [
                    route(
                        name, names.isEmpty ? "any connection" : "SNI \(names.joined(separator: ", "))",
                        Self.destinations(item))
                ]
            }
            return rules.enumerated().flatMap { number, rule -> [Route] in
                let title = "\(name)/\(rule["name"]?.string ?? String(number))"
                let matches = rule["matches"]?.array ?? []
                let words = matches.isEmpty ? ["/*"] : matches.map(Self.words)
                return words.map { route(title, $0, Self.destinations(rule)) }
            }
        }
    }

    private static func words(_ match: JSONValue) -> String {
        var words: [String] = []
        if let text = match["exact"]?.string { words.append("Exact \(text)") }
        if let text = match["prefix"]?.string { words.append(text == "/" ? "/*" : "PathPrefix \(text)") }
        if let text = match["regex"]?.string { words.append("RegularExpression \(text)") }
        if let service = match["grpcService"]?.string {
            words.append("Call \(service)/\(match["grpcMethod"]?.string ?? "*")")
        }
        if let method = match["method"]?.string { words.append("Method \(method)") }
        for header in match["headers"]?.array ?? [] { words.append("Header \(header.string ?? "")") }
        for parameter in match["query"]?.array ?? [] { words.append("Query \(parameter.string ?? "")") }
        return words.joined(separator: ", ")
    }

    /// Backends with their weights where there are several, then what else a rule does.
    private static func destinations(_ rule: JSONValue) -> String {
        let backends = rule["backends"]?.array ?? []
        var words = backends.map { backend in
            let weight = backends.count > 1 ? " (\(backend["weight"]?.int ?? 1))" : ""
            if let reason = backend["invalid"]?.string { return "refused: \(reason)\(weight)" }
            return "\(Self.host(backend["service"])):\(backend["port"]?.int ?? 0)\(weight)"
        }
        words += (rule["filters"]?.array ?? []).compactMap(\.string)
        if let timeout = rule["timeout"]?.string { words.append("timeout \(timeout)") }
        if let retries = rule["retries"]?.int, retries > 0 { words.append("\(retries) retries") }
        if let session = rule["session"]?.string { words.append("session \(session)") }
        return words.joined(separator: ", ")
    }

    package var clusters: [Cluster] {
        self.items("clusters").map { item in
            Cluster(
                item: item, service: Self.host(item["service"]), port: item["port"]?.int.map(Int.init) ?? 0,
                subset: item["subset"]?.string ?? "", direction: item["direction"]?.string ?? "inbound",
                type: item["balancing"]?.string ?? "", destinationRule: item["destinationRule"]?.string ?? "")
        }
    }

    /// What the process may choose from: it drops endpoints that are not healthy, so a status is rarely said.
    package var endpoints: [Endpoint] {
        self.items("endpoints").map { item in
            Endpoint(
                item: item, address: item["address"]?.string ?? "", status: item["status"]?.string ?? "",
                outlier: item["outlier"]?.string ?? "", cluster: item["cluster"]?.string ?? "")
        }
    }

    package var certificates: [Certificate] {
        self.items("secrets").flatMap { item -> [Certificate] in
            func certificate(_ type: String, _ part: JSONValue) -> Certificate {
                Certificate(
                    identity: item["identity"]?.string ?? "", type: type, state: item["state"]?.string ?? "",
                    serialNumber: part["serialNumber"]?.string ?? "", validFrom: part["validFrom"]?.string ?? "",
                    expirationTime: part["expirationTime"]?.string ?? "")
            }
            let chain = (item["certChain"]?.array ?? []).enumerated().map {
                certificate($0.offset == 0 ? "Leaf" : "Intermediate", $0.element)
            }
            let roots = (item["rootCerts"]?.array ?? []).map { certificate("Root", $0) }
            return chain.isEmpty && roots.isEmpty ? [certificate("NA", [:])] : chain + roots
        }
    }
}
