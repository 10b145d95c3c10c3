package import MeshModel

/// The rules on the node: connections that the node itself opens to an enrolled pod (kubelet's probes) get a source
/// address that the pod's rules let through. Forwarded traffic has no local socket and is never exempt.
package struct HostRules: Hashable, Sendable {
    package var probeSources: [IPAddress]

    package init(probeSources: [IPAddress]) { self.probeSources = probeSources }

    package static func set(_ isV6: Bool) -> String { isV6 ? "probes6" : "probes4" }

    /// Makes or renews everything except the members of the sets: an agent that restarts must not expose a probe.
    package var installation: String {
        let table = "inet \(Redirection.hostTable)"
        var text = """
            add table \(table)
            add set \(table) probes4 { type ipv4_addr; }
            add set \(table) probes6 { type ipv6_addr; }
            add chain \(table) out_probe { type nat hook postrouting priority 90; policy accept; }
            flush chain \(table) out_probe

            """
        for source in self.probeSources {
            let family = source.isV6 ? "ip6" : "ip"
            // The range holds every user; the match is that there is a local socket with an owner at all.
            text +=
                "add rule \(table) out_probe meta l4proto tcp meta skuid 0-4294967294 \(family) daddr "
                + "@\(Self.set(source.isV6)) counter snat \(family) to \(source)\n"
        }
        return text
    }

    package static let removal = """
        add table inet \(Redirection.hostTable)
        delete table inet \(Redirection.hostTable)

        """

    /// The difference between two memberships, as one transaction; nil when there is none. Each address carries the UID of
    /// its pod as comment.
    package static func change(from old: [IPAddress: String], to new: [IPAddress: String]) -> String? {
        var text = ""
        for (address, uid) in old.sorted(by: { "\($0.key)" < "\($1.key)" }) where new[address] != uid {
            text += "delete element inet \(Redirection.hostTable) \(Self.set(address.isV6)) { \(address) }\n"
        }
        for (address, uid) in new.sorted(by: { "\($0.key)" < "\($1.key)" }) where old[address] != uid {
            text +=
                "add element inet \(Redirection.hostTable) \(Self.set(address.isV6)) "
                + "{ \(address) comment \"\(uid)\" }\n"
        }
        return text.isEmpty ? nil : text
    }
}
