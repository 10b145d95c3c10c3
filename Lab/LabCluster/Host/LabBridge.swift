internal import Foundation

/// The bridge in the machine's own network namespace that all nodes of a cluster are plugged into.
enum LabBridge {
    /// Makes it, or does nothing when it is there.
    static func ensure(_ spec: LabSpec) throws(LabError) {
        let name = spec.bridge
        if !FileManager.default.fileExists(atPath: "/sys/class/net/\(name)") {
            // No multicast snooping: without a querier it would drop what nodes do not ask for.
            // An address of its own: otherwise it takes the lowest of its ports', and each port that comes would
            // leave the nodes that are there with a stale neighbour entry.
            try Command.check(
                "ip", "link", "add", name, "address", Self.hardwareAddress(spec.gateway), "type", "bridge",
                "mcast_snooping", "0")
        }
        try Command.check(
            "ip", "address", "replace", "\(spec.gateway)/\(spec.subnet.prefixLength)", "dev", name)
        try Command.check("ip", "link", "set", name, "up")
    }

    /// Locally administered, from the four numbers of the address.
    private static func hardwareAddress(_ address: some CustomStringConvertible) -> String {
        let octets = "\(address)".split(separator: ".").compactMap { UInt8($0) }
        return ([0x02, 0x42] + octets).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }

    /// Removes it and the nodes' ports on it.
    static func remove(_ cluster: String) {
        let bridge = LabSpec.bridge(cluster)
        let links = (try? FileManager.default.contentsOfDirectory(atPath: "/sys/class/net")) ?? []
        for link in links.sorted() where self.isPort(link, of: bridge) {
            _ = try? Command.run(["ip", "link", "delete", link])
        }
        if links.contains(bridge) { _ = try? Command.run(["ip", "link", "delete", bridge]) }
    }

    /// `ml12ab34` has ports `ml12ab34n0`, `ml12ab34n1` …
    static func isPort(_ link: String, of bridge: String) -> Bool {
        guard link.hasPrefix("\(bridge)n") else { return false }
        let digits = link.dropFirst(bridge.count + 1)
        return !digits.isEmpty && digits.utf8.allSatisfy { (48...57).contains($0) }
    }
}
