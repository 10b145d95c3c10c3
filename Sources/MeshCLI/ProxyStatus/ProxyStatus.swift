package import KubeAPI

/// Who is connected to the control plane and whether it has what was sent, from what each control plane pod answers to
/// `GET /debug/syncz` on its port 15014.
package struct ProxyStatus: Sendable {
    /// One proxy's connection to one pod of the control plane.
    private struct Row {
        /// `<pod>.<namespace>`
        var name: String
        var controlPlane: String
        var types: [(short: String, state: String)]
    }
    private var rows: [Row] = []

    /// What istioctl calls resource types, in its order: the four of Envoy first.
    private static let names: [(suffix: String, short: String)] = [
        ("Cluster", "CDS"), ("Listener", "LDS"), ("ClusterLoadAssignment", "EDS"), ("RouteConfiguration", "RDS"),
        ("Secret", "SDS"), ("NameTable", "NDS"), ("ProxyConfig", "PCDS"), ("TypedExtensionConfig", "ECDS"),
        ("Address", "WDS"), ("Workload", "WDS"), ("Authorization", "WADS"),
    ]

    package init() {}

    /// - Parameter namespace: only proxies of it; nil: all.
    package mutating func add(_ document: JSONValue, from controlPlane: String, namespace: String?) {
        for client in document.array ?? [] {
            // <kind>~<address>~<pod>.<namespace>~<domain>
            let parts = (client["node"]?.string ?? "").split(separator: "~", omittingEmptySubsequences: false)
            let name = parts.count == 4 ? String(parts[2]) : client["node"]?.string ?? "?"
            if let namespace, !name.hasSuffix(".\(namespace)") { continue }
            let types = (client["types"]?.array ?? []).map { (Self.short($0["type"]?.string ?? "?"), Self.state($0)) }
            self.add(Row(name: name, controlPlane: controlPlane, types: types.sorted(by: Self.precedes)))
        }
        self.rows.sort { ($0.name, $0.controlPlane) < ($1.name, $1.controlPlane) }
    }

    /// A sidecar's agent follows names on a stream beside Envoy's: both are one proxy's. Streams that have a type in common
    /// are an old and a new one.
    private mutating func add(_ row: Row) {
        let other = self.rows.firstIndex { held in
            held.name == row.name && held.controlPlane == row.controlPlane
                && !held.types.contains { type in row.types.contains { $0.short == type.short } }
        }
        guard let other else { return self.rows.append(row) }
        self.rows[other].types = (self.rows[other].types + row.types).sorted(by: Self.precedes)
    }

    private static func short(_ url: String) -> String {
        let last = url.split(whereSeparator: { $0 == "/" || $0 == "." }).last.map(String.init) ?? url
        return self.names.first { $0.suffix == last }?.short ?? last
    }

    private static func state(_ type: JSONValue) -> String {
        if let refusal = type["lastRefusal"]?.string, !refusal.isEmpty, type["inSync"]?.bool != true { return "ERROR" }
        if type["sentRevision"]?.int == 0 { return "NOT SENT" }
        return type["inSync"]?.bool == true ? "SYNCED" : "STALE"
    }

    private static func precedes(_ first: (short: String, state: String), _ second: (short: String, state: String))
        -> Bool
    {
        func rank(_ short: String) -> Int { self.names.firstIndex { $0.short == short } ?? self.names.count }
        return (rank(first.short), first.short) < (rank(second.short), second.short)
    }

    /// What each proxy is subscribed to.
    package var table: Table {
        var table = Table(["NAME", "ISTIOD", "SUBSCRIBED TYPES"], gap: 5)
        for row in self.rows {
            let shorts = row.types.map(\.short)
            table.add([row.name, row.controlPlane, "\(shorts.count) (\(shorts.joined(separator: ",")))"])
        }
        return table
    }

    /// With a column for each type, and whether the proxy has what was sent.
    package var details: Table {
        let shorts = self.rows.flatMap(\.types).sorted(by: Self.precedes).reduce(into: [String]()) { all, type in
            if !all.contains(type.short) { all.append(type.short) }
        }
        var table = Table(["NAME"] + shorts + ["ISTIOD"], gap: 5)
        for row in self.rows {
            let cells = shorts.map { short in row.types.first { $0.short == short }?.state ?? "IGNORED" }
            table.add([row.name] + cells + [row.controlPlane])
        }
        return table
    }
}
