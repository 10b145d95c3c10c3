internal import MeshModel

/// How an application's questions for names come to the agent (Istio's rows, in its order).
///
/// Over UDP a question and what the agent asks the resolver because of it may look the same to the connection tracking, down
/// to the ports: so each has a zone of its own. 1 is between the agent and resolvers, 2 between the application and the
/// agent.
extension SidecarRules {
    static let namesChain = "ISTIO_OUTPUT_DNS"
    static let dnsPort: UInt16 = 53

    /// As a destination or source of a row, behind a flag; one empty text: whatever it is.
    private func resolvers(_ flag: String, _ family: Family) -> [String] {
        switch self.names {
        case .none: []
        case .all: [""]
        case .of(let addresses):
            addresses.filter { $0.isV6 == (family == .v6) }.map { "\(flag) \($0)/\($0.isV6 ? 128 : 32) " }
        }
    }

    /// `-m owner ...` of everything that is the proxy's.
    private var owners: [String] {
        self.userIDs.map { "-m owner --uid-owner \($0)" } + self.groupIDs.map { "-m owner --gid-owner \($0)" }
    }

    /// In ISTIO_OUTPUT, where the proxy's own questions have been let go already.
    func addNames(to table: inout Table, _ family: Family) {
        guard self.names != .none else { return }
        table.add("ISTIO_OUTPUT", "-j \(Self.namesChain)")
        func redirect(_ transport: String) {
            for resolver in self.resolvers("-d", family) {
                table.add(
                    Self.namesChain,
                    "\(resolver)-p \(transport) -m \(transport) --dport \(Self.dnsPort) "
                        + "-j REDIRECT --to-ports \(Redirection.dnsPort)")
            }
        }
        redirect("tcp")
        for owner in self.owners {
            table.add(Self.namesChain, "-p udp -m udp --dport \(Self.dnsPort) \(owner) -j RETURN")
        }
        redirect("udp")
    }

    func raw(_ family: Family) -> Table {
        var table = Table()
        guard self.names != .none else { return table }
        table.chains = [Self.namesChain, "ISTIO_INBOUND"]
        table.builtin = ["-A OUTPUT -j \(Self.namesChain)", "-A PREROUTING -j ISTIO_INBOUND"]
        for owner in self.owners {
            // The agent asks a resolver; the agent answers the application.
            table.add(Self.namesChain, "-p udp -m udp --dport \(Self.dnsPort) \(owner) -j CT --zone 1")
            table.add(Self.namesChain, "-p udp -m udp --sport \(Redirection.dnsPort) \(owner) -j CT --zone 2")
        }
        for resolver in self.resolvers("-d", family) {
            table.add(Self.namesChain, "\(resolver)-p udp -m udp --dport \(Self.dnsPort) -j CT --zone 2")
        }
        for resolver in self.resolvers("-s", family) {
            table.add("ISTIO_INBOUND", "\(resolver)-p udp -m udp --sport \(Self.dnsPort) -j CT --zone 1")
        }
        return table
    }
}
