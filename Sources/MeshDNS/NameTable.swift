package import MeshModel

/// The names that the mesh answers for one client, and their addresses: what a control plane sends as
/// `istio.networking.nds.v1.NameTable`. It is made for the client, so every name in it is visible to the client.
package struct NameTable: Hashable, Sendable {
    /// Whose the name is.
    package enum Registry: String, Hashable, Sendable { case kubernetes = "Kubernetes", external = "External" }

    package struct Entry: Hashable, Sendable {
        /// Virtual ones, or of a service without any those of its endpoints.
        package var addresses: [IPAddress]
        package var registry: Registry
        /// Of a Kubernetes Service; empty otherwise.
        package var shortName, namespace: String

        package init(
            _ addresses: [IPAddress], registry: Registry = .external, shortName: String = "", namespace: String = ""
        ) {
            self.addresses = addresses
            self.registry = registry
            self.shortName = shortName
            self.namespace = namespace
        }
    }

    /// By host name in lower case, without a dot at the end; may begin with `*.`.
    package let entries: [String: Entry]
    package let wildcardLabelCounts: [Int]

    /// - Parameter entries: by host name in any case; of two that are the same the one that comes first as text counts.
    package init(_ entries: [String: Entry]) {
        var normal: [String: Entry] = [:]
        var counts: Set<Int> = []
        normal.reserveCapacity(entries.count)
        for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
            let hostname = String(name.lowercased().reversed().drop { $0 == "." }.reversed())
            if hostname.isEmpty || normal[hostname] != nil { continue }
            normal[hostname] = entry
            if hostname.hasPrefix("*.") { counts.insert(hostname.split(separator: ".").count) }
        }
        self.entries = normal
        self.wildcardLabelCounts = counts.sorted()
    }
}

extension NameTable: MeshNameTable {
    package func service(hostname: String, for client: DNSClient, isV6: Bool) -> NamedService? {
        self.entries[hostname].map { entry in
            NamedService(hostname: hostname, addresses: entry.addresses.filter { $0.isV6 == isV6 })
        }
    }
}
