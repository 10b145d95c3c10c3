package import Foundation
package import KubeAPI

/// What an Envoy answers to `GET /config_dump?include_eds` on its admin port (`envoy.admin.v3.ConfigDump`), and to
/// `GET /certs`. Columns are istioctl's.
package struct EnvoyDump: ProxyDump, Sendable {
    package let raw: JSONValue
    private let certificates: JSONValue

    /// Nil: it is something else.
    package init?(_ bytes: [UInt8], certificates: [UInt8] = []) {
        guard let raw = try? JSONValue(parsing: bytes), raw["configs"]?.array != nil else { return nil }
        self.raw = raw
        self.certificates = (try? JSONValue(parsing: certificates)) ?? [:]
    }

    /// - Parameters:
    ///   - section: `ClustersConfigDump` and so on.
    ///   - lists: of it, with what stands in each of their elements.
    private func items(_ section: String, _ lists: [(list: String, path: [String])]) -> [JSONValue] {
        let found = (self.raw["configs"]?.array ?? []).filter {
            $0["@type"]?.string?.hasSuffix(".\(section)") ?? false
        }
        return found.flatMap { config in
            lists.flatMap { list, path in (config[list]?.array ?? []).compactMap { $0.at(path) } }
        }
    }

    // MARK: Clusters and endpoints

    package func clusters(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let all = self.items(
            "ClustersConfigDump", [("static_clusters", ["cluster"]), ("dynamic_active_clusters", ["cluster"])])
        let kept = all.map(Self.cluster).filter(filter.admits)
            .sorted { ($0.service, $0.port, $0.direction) < ($1.service, $1.port, $1.direction) }
        var table = Table(["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"], gap: 5)
        for cluster in kept {
            table.add([
                cluster.service, cluster.port > 0 ? String(cluster.port) : "", cluster.subset, cluster.direction,
                cluster.type, cluster.destinationRule,
            ])
        }
        return ProxyConfigView(table, kept.map(\.item))
    }

    /// `<direction>|<port>|<subset>|<host>`, or a name without meaning.
    private static func cluster(_ item: JSONValue) -> WaypointDump.Cluster {
        let name = item["name"]?.string ?? ""
        let type = item["type"]?.string ?? "STATIC"
        let parts = name.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 4, let port = Int(parts[1]) else {
            return .init(
                item: item, service: name, port: 0, subset: "", direction: "", type: type, destinationRule: "")
        }
        return .init(
            item: item, service: parts[3], port: port, subset: parts[2], direction: parts[0], type: type,
            destinationRule: "")
    }

    package func endpoints(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let configs = self.items(
            "EndpointsConfigDump",
            [("static_endpoint_configs", ["endpoint_config"]), ("dynamic_endpoint_configs", ["endpoint_config"])])
        let all = configs.flatMap { config -> [WaypointDump.Endpoint] in
            let cluster = config["cluster_name"]?.string ?? ""
            return (config["endpoints"]?.array ?? []).flatMap { $0["lb_endpoints"]?.array ?? [] }.map {
                // The item says of which cluster it is.
                let item: JSONValue = ["cluster": .string(cluster), "endpoint": $0]
                return .init(
                    item: item, address: Self.address($0), status: Self.status($0), outlier: "OK", cluster: cluster)
            }
        }
        let kept = all.filter(filter.admits).sorted { ($0.cluster, $0.address) < ($1.cluster, $1.address) }
        var table = Table(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"], gap: 5)
        for endpoint in kept { table.add([endpoint.address, endpoint.status, endpoint.outlier, endpoint.cluster]) }
        return ProxyConfigView(table, kept.map(\.item))
    }

    /// An address; `envoy://<listener>/<target>` for a tunnel, with whom it leads through where that is another.
    private static func address(_ endpoint: JSONValue) -> String {
        let address = endpoint.at("endpoint", "address")
        if let inside = address?["envoy_internal_address"] {
            let target =
                endpoint.at("metadata", "filter_metadata", "envoy.filters.listener.original_dst", "local")?.string
                ?? inside["endpoint_id"]?.string ?? ""
            let text = "envoy://\(inside["server_listener_name"]?.string ?? "")/\(target)"
            let waypoint = endpoint.at(
                "metadata", "filter_metadata", "envoy.filters.listener.original_dst", "waypoint")
            return waypoint?.string.map { "\(text) through \($0)" } ?? text
        }
        if let pipe = address?.at("pipe", "path")?.string { return "unix://\(pipe)" }
        let socket = address?["socket_address"]
        let host = socket?["address"]?.string ?? ""
        return "\(host.contains(":") ? "[\(host)]" : host):\(socket?["port_value"]?.int ?? 0)"
    }

    private static func status(_ endpoint: JSONValue) -> String {
        let status = endpoint["health_status"]?.string ?? "UNKNOWN"
        return status == "UNKNOWN" ? "HEALTHY" : status
    }

    // MARK: Listeners

    private struct Chain {
        var item: JSONValue
        var listener: WaypointDump.Listener
        var match: String
    }

    package func listeners(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let all = self.items(
            "ListenersConfigDump",
            [("static_listeners", ["listener"]), ("dynamic_listeners", ["active_state", "listener"])])
        let chains = all.flatMap(Self.chains).filter { filter.admits($0.listener) }
            .sorted { ($0.listener.addresses[0], $0.listener.port) < ($1.listener.addresses[0], $1.listener.port) }
        var table = Table(["ADDRESSES", "PORT", "MATCH", "DESTINATION"], gap: 5)
        for chain in chains {
            table.add([
                chain.listener.addresses[0], chain.listener.port > 0 ? String(chain.listener.port) : "", chain.match,
                chain.listener.destination,
            ])
        }
        return ProxyConfigView(table, chains.map(\.item))
    }

    private static func chains(_ item: JSONValue) -> [Chain] {
        let socket = item.at("address", "socket_address")
        // Without an address it is one that the process connects to itself.
        let name = item["name"]?.string ?? ""
        func chain(_ chain: JSONValue, isDefault: Bool) -> Chain {
            Chain(
                item: item,
                listener: .init(
                    item: item, name: name, service: nil, addresses: [socket?["address"]?.string ?? "internal:\(name)"],
                    port: socket?["port_value"]?.int.map(Int.init) ?? 0, kind: "",
                    destination: Self.destination(chain)),
                match: isDefault ? "ALL" : Self.match(chain, isNamed: item["filter_chain_matcher"] != nil))
        }
        return (item["filter_chains"]?.array ?? []).map { chain($0, isDefault: false) }
            + (item["default_filter_chain"].map { [chain($0, isDefault: true)] } ?? [])
    }

    private static func match(_ chain: JSONValue, isNamed: Bool) -> String {
        if isNamed { return chain["name"]?.string ?? "" }
        let match = chain["filter_chain_match"]
        var words: [String] = []
        func list(_ name: String) -> String? {
            let texts = match?[name]?.array?.compactMap(\.string) ?? []
            return texts.isEmpty ? nil : texts.joined(separator: ",")
        }
        if let names = list("server_names") { words.append("SNI: \(names)") }
        if let transport = match?["transport_protocol"]?.string { words.append("Trans: \(transport)") }
        if let protocols = list("application_protocols") { words.append("App: \(protocols)") }
        if let port = match?["destination_port"]?.int { words.append("Addr: *:\(port)") }
        return words.isEmpty ? "ALL" : words.joined(separator: "; ")
    }

    private static func destination(_ chain: JSONValue) -> String {
        for filter in chain["filters"]?.array ?? [] {
            let config = filter["typed_config"]
            if let route = config?.at("rds", "route_config_name")?.string { return "Route: \(route)" }
            if let route = config?["route_config"] { return "Inline Route: \(route["name"]?.string ?? "")" }
            if let cluster = config?["cluster"]?.string { return "Cluster: \(cluster)" }
            if let clusters = config?.at("weighted_clusters", "clusters")?.array {
                let names = clusters.map { "\($0["name"]?.string ?? "") (\($0["weight"]?.int ?? 0))" }
                return "Clusters: \(names.joined(separator: ", "))"
            }
        }
        return "Non-HTTP/Non-TCP"
    }

    // MARK: Routes

    package func routes(_ filter: ProxyConfigFilter) -> ProxyConfigView {
        let configs = self.items(
            "RoutesConfigDump",
            [("static_route_configs", ["route_config"]), ("dynamic_route_configs", ["route_config"])])
        let kept = configs.filter { config in
            filter.name.map { $0.lowercased() == config["name"]?.string?.lowercased() } ?? true
        }.sorted { ($0["name"]?.string ?? "") < ($1["name"]?.string ?? "") }
        var table = Table(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE", "DESTINATION"], gap: 5)
        for config in kept {
            for host in config["virtual_hosts"]?.array ?? [] {
                let domains = host["domains"]?.array?.compactMap(\.string) ?? []
                let more = domains.count > 1 ? " + \(domains.count - 1) more" : ""
                for route in host["routes"]?.array ?? [] {
                    table.add([
                        config["name"]?.string ?? "", host["name"]?.string ?? "",
                        (domains.first ?? "") + more, Self.words(route["match"] ?? [:]), "", Self.action(route),
                    ])
                }
            }
        }
        return ProxyConfigView(table, kept)
    }

    private static func words(_ match: JSONValue) -> String {
        if match["connect_matcher"] != nil { return "CONNECT" }
        var words: [String] = []
        if let path = match["path"]?.string { words.append("Exact \(path)") }
        if let prefix = match["prefix"]?.string { words.append("\(prefix)*") }
        if let prefix = match["path_separated_prefix"]?.string { words.append("PathPrefix \(prefix)") }
        if let pattern = match.at("safe_regex", "regex")?.string { words.append("RegularExpression \(pattern)") }
        for header in match["headers"]?.array ?? [] { words.append("Header \(header["name"]?.string ?? "")") }
        for query in match["query_parameters"]?.array ?? [] { words.append("Query \(query["name"]?.string ?? "")") }
        return words.joined(separator: ", ")
    }

    private static func action(_ route: JSONValue) -> String {
        if let cluster = route.at("route", "cluster")?.string { return cluster }
        if let clusters = route.at("route", "weighted_clusters", "clusters")?.array {
            return clusters.map { "\($0["name"]?.string ?? "") (\($0["weight"]?.int ?? 0))" }.joined(separator: ", ")
        }
        if route["redirect"] != nil { return "redirect" }
        if let status = route.at("direct_response", "status")?.int { return "\(status)" }
        return ""
    }

    // MARK: Secrets and the rest

    /// Each certificate once, however many connections use it.
    package func secrets(now: Date) -> ProxyConfigView {
        var table = Table(
            ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"], gap: 5)
        var items: [JSONValue] = []
        for certificates in self.certificates["certificates"]?.array ?? [] {
            for (list, name, type) in [("cert_chain", "default", "Cert Chain"), ("ca_cert", "ROOTCA", "CA")] {
                for certificate in certificates[list]?.array ?? [] where !items.contains(certificate) {
                    items.append(certificate)
                    let shown = WaypointDump.Certificate(
                        identity: name, type: type, state: "ACTIVE", serialNumber: "",
                        validFrom: certificate["valid_from"]?.string ?? "",
                        expirationTime: certificate["expiration_time"]?.string ?? "")
                    table.add([
                        name, type, shown.state, "\(shown.isValid(at: now))",
                        certificate["serial_number"]?.string ?? "", shown.expirationTime, shown.validFrom,
                    ])
                }
            }
        }
        return ProxyConfigView(table, items)
    }

    package var bootstrap: ProxyConfigView {
        let document =
            (self.raw["configs"]?.array ?? []).first {
                $0["@type"]?.string?.hasSuffix(".BootstrapConfigDump") ?? false
            } ?? [:]
        let node = document.at("bootstrap", "node")
        var table = Table(["NAME", "VALUE"], gap: 5)
        table.add(["node", node?["id"]?.string ?? ""])
        table.add(["cluster", node?["cluster"]?.string ?? ""])
        let version = node?.at("user_agent_build_version", "version")
        let numbers = ["major_number", "minor_number", "patch"].map { version?[$0]?.int ?? 0 }
        table.add(["version", "envoy \(numbers.map(String.init).joined(separator: "."))"])
        for (name, value) in (node?["metadata"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            table.add([name, value.string ?? String(decoding: value.encoded, as: UTF8.self)])
        }
        return ProxyConfigView(table, [document])
    }
}
