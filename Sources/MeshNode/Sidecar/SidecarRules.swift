package import MeshModel

/// The packet rules of a pod with a sidecar, as text for `iptables-restore --noflush`: a pure function of what is wanted.
///
/// Istio's chains and rows, in its order (`iptables -t nat -vnL` shows them the same way): operators and tools look for
/// them by name. Everything is one transaction, so no packet ever sees half of it.
package struct SidecarRules: Hashable, Sendable {
    package enum Family: CaseIterable, Sendable {
        case v4, v6
        /// Where Envoy's inbound connections to the app come from: they are not captured again.
        var passThroughSource: String { self == .v4 ? "127.0.0.6/32" : "::6/128" }
        var loopback: String { self == .v4 ? "127.0.0.1/32" : "::1/128" }
    }

    package enum Ports: Hashable, Sendable {
        case all
        case only([UInt16])
    }
    package enum Ranges: Hashable, Sendable {
        case all
        case only([CIDR])
    }
    /// Whose questions for names go to the agent.
    package enum Names: Hashable, Sendable {
        case none
        /// To these resolvers: those of the pod's resolv.conf. Others are left alone, so that an application may run a
        /// resolver of its own and is not asked by itself.
        case of([IPAddress])
        /// To any resolver.
        case all
    }

    /// Envoy's listeners.
    package var outboundPort = Redirection.outboundPort
    package var inboundPort = Redirection.inboundPort
    package var tunnelPort = Redirection.tunnelPort
    /// Whose traffic is the proxy's own.
    package var userIDs: [UInt32] = [1337]
    package var groupIDs: [UInt32] = [1337]
    package var inboundPorts = Ports.all
    package var inboundPortsExcluded: [UInt16] = []
    package var outboundRanges = Ranges.all
    package var outboundRangesExcluded: [CIDR] = []
    /// Captured whatever their address is.
    package var outboundPortsIncluded: [UInt16] = []
    package var outboundPortsExcluded: [UInt16] = []
    /// Left alone in both directions.
    package var interfacesExcluded: [String] = []
    /// Traffic that arrives here comes from inside the pod (a virtual machine) and counts as outbound.
    package var virtualInterfaces: [String] = []
    /// Drop packets that belong to no connection, instead of letting the kernel answer them with a reset.
    package var dropsInvalid = false
    package var names = Names.none

    package init() {}

    static let chains = ["ISTIO_INBOUND", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT", "ISTIO_OUTPUT"]
    static let prefix = "ISTIO_"
    /// Zones of connections come before what redirects them.
    package static let tables = ["mangle", "raw", "nat"]

    /// Of one table: the rules of the kernel's own chains, in the words of `iptables-save`, and those of ours.
    struct Table: Hashable {
        /// `-I` rows come first in their chain, so the last one listed here ends up on top.
        var builtin: [String] = []
        var chains: [String] = []
        var rules: [String] = []

        mutating func add(_ chain: String, _ rule: String) { self.rules.append("-A \(chain) \(rule)") }
    }

    func table(_ name: String, _ family: Family) -> Table {
        switch name {
        case "mangle": self.mangle
        case "raw": self.raw(family)
        default: self.nat(family)
        }
    }

    private var mangle: Table {
        var table = Table()
        guard self.dropsInvalid else { return table }
        table.chains = ["ISTIO_DROP"]
        for interface in self.interfacesExcluded { table.builtin.append("-I PREROUTING -i \(interface) -j RETURN") }
        table.builtin.append("-A PREROUTING -m conntrack --ctstate INVALID -j ISTIO_DROP")
        table.rules.append("-A ISTIO_DROP -j DROP")
        return table
    }

    private func nat(_ family: Family) -> Table {
        var table = Table()
        table.chains = Self.chains + (self.names == .none ? [] : [Self.namesChain])
        for interface in self.interfacesExcluded {
            table.builtin.append("-I PREROUTING -i \(interface) -j RETURN")
            table.builtin.append("-I OUTPUT -o \(interface) -j RETURN")
        }
        for interface in self.virtualInterfaces { table.builtin.append("-I PREROUTING -i \(interface) -j RETURN") }
        table.add("ISTIO_REDIRECT", "-p tcp -j REDIRECT --to-ports \(self.outboundPort)")
        table.add("ISTIO_IN_REDIRECT", "-p tcp -j REDIRECT --to-ports \(self.inboundPort)")
        self.inbound(&table)
        self.outbound(&table, family)
        return table
    }

    private func inbound(_ table: inout Table) {
        let chain = "ISTIO_INBOUND"
        table.add(chain, "-p tcp -m tcp --dport \(self.tunnelPort) -j RETURN")
        switch self.inboundPorts {
        case .only([]): return
        case .only(let ports):
            for port in ports { table.add(chain, "-p tcp -m tcp --dport \(port) -j ISTIO_IN_REDIRECT") }
        case .all:
            for port in self.inboundPortsExcluded { table.add(chain, "-p tcp -m tcp --dport \(port) -j RETURN") }
            table.add(chain, "-p tcp -j ISTIO_IN_REDIRECT")
        }
        table.builtin.append("-A PREROUTING -p tcp -j ISTIO_INBOUND")
    }

    private func outbound(_ table: inout Table, _ family: Family) {
        let chain = "ISTIO_OUTPUT"
        table.builtin.append("-A OUTPUT -j ISTIO_OUTPUT")
        for port in self.outboundPortsExcluded {
            table.add(chain, "-p tcp -m tcp --dport \(port) -j RETURN")
            table.add(chain, "-p udp -m udp --dport \(port) -j RETURN")
        }
        table.add(chain, "-s \(family.passThroughSource) -o lo -j RETURN")
        for (kind, ids) in [("uid", self.userIDs), ("gid", self.groupIDs)] {
            for id in ids {
                let owner = "-m owner --\(kind)-owner \(id)"
                // The proxy calls its own pod by the pod's address: in again, through the inbound listener. The agent's
                // answers are none of that; whom it asks is its user, so only that row says so.
                let ports =
                    self.names != .none && kind == "uid"
                    ? "-m multiport ! --dports 53,\(self.tunnelPort)" : "-m tcp ! --dport \(self.tunnelPort)"
                table.add(chain, "! -d \(family.loopback) -o lo -p tcp \(ports) \(owner) -j ISTIO_IN_REDIRECT")
                // The app calls itself, unless that is a resolver beside it.
                let own = self.names == .none ? "" : " -p tcp -m tcp ! --dport 53"
                table.add(chain, "-o lo\(own) -m owner ! --\(kind)-owner \(id) -j RETURN")
                table.add(chain, "\(owner) -j RETURN")
            }
        }
        self.addNames(to: &table, family)
        table.add(chain, "-d \(family.loopback) -j RETURN")
        func of(_ blocks: [CIDR]) -> [CIDR] { blocks.filter { $0.base.isV6 == (family == .v6) } }
        for block in of(self.outboundRangesExcluded) { table.add(chain, "-d \(block) -j RETURN") }
        for port in self.outboundPortsIncluded { table.add(chain, "-p tcp -m tcp --dport \(port) -j ISTIO_REDIRECT") }
        switch self.outboundRanges {
        case .all:
            for interface in self.virtualInterfaces {
                table.builtin.append("-I PREROUTING -i \(interface) -j ISTIO_REDIRECT")
            }
            table.add(chain, "-j ISTIO_REDIRECT")
        case .only([]): break
        case .only(let blocks):
            for block in of(blocks) {
                for interface in self.virtualInterfaces {
                    table.builtin.append("-I PREROUTING -d \(block) -i \(interface) -j ISTIO_REDIRECT")
                }
                table.add(chain, "-d \(block) -j ISTIO_REDIRECT")
            }
            table.add(chain, "-j RETURN")
        }
    }
}

extension SidecarRules {
    // MARK: From what is there to what is wanted

    /// - Parameter present: per table, what `iptables-save` says.
    /// - Returns: the transaction; rules of an earlier run are replaced in it. Empty: there is nothing to do.
    package func installation(_ family: Family, present: [String: String]) -> String {
        var text = ""
        for name in Self.tables {
            let table = self.table(name, family)
            text += Self.transaction(name, present[name] ?? "", wanted: table, ours: table)
        }
        return text
    }

    /// Takes everything of ours away.
    package func removal(_ family: Family, present: [String: String]) -> String {
        var text = ""
        for name in Self.tables {
            text += Self.transaction(name, present[name] ?? "", wanted: Table(), ours: self.table(name, family))
        }
        return text
    }

    /// - Parameter ours: has the rules of the kernel's chains that are ours although nothing in them says so.
    private static func transaction(_ name: String, _ present: String, wanted: Table, ours: Table) -> String {
        let lines = present.split(separator: "\n").map(String.init)
        let known = Set(ours.builtin.map { String($0.dropFirst(3)) })
        var gone: [String] = []
        var commands: [String] = []
        for line in lines {
            if line.hasPrefix(":\(Self.prefix)") {
                let chain = String(line.dropFirst().prefix { $0 != " " })
                if !wanted.chains.contains(chain) { gone.append(chain) }
            } else if line.hasPrefix("-A "), !line.hasPrefix("-A \(Self.prefix)") {
                let rule = String(line.dropFirst(3))
                if rule.contains("-j \(Self.prefix)") || known.contains(rule) { commands.append("-D \(rule)") }
            }
        }
        for chain in gone { commands.append("-F \(chain)") }
        for chain in gone { commands.append("-X \(chain)") }
        commands += wanted.builtin + wanted.rules
        if commands.isEmpty, wanted.chains.isEmpty { return "" }
        // A chain that is there already is emptied by its declaration.
        let declared = (wanted.chains + gone).map { ":\($0) - [0:0]" }
        return (["*\(name)"] + declared + commands + ["COMMIT", ""]).joined(separator: "\n")
    }
}
