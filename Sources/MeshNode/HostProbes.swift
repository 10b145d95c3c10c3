internal import KubeAPI
package import MeshLinux
package import MeshModel

/// The addresses of enrolled pods on the node, whose probes are let through. Sets are changed by differences and never
/// emptied: a moment without an entry is a failed probe under strict policy.
package actor HostProbes {
    private let rules: HostRules
    /// The node's namespace; nil when we are in it.
    private let namespace: SharedNetworkNamespace?
    /// Which pod (UID) an address belongs to.
    private var wanted: [IPAddress: String] = [:]
    /// What the kernel has as far as we know.
    private var present: [IPAddress: String] = [:]

    package init(probeSources: [IPAddress], namespace: SharedNetworkNamespace?) {
        self.rules = HostRules(probeSources: probeSources)
        self.namespace = namespace
    }

    package var count: Int { self.present.count }

    /// Makes the rules and takes over the entries of a predecessor.
    package func install() async throws {
        let text = self.rules.installation
        self.present = try await self.inHost {
            try Nftables.apply(text)
            return try Self.readSets()
        }
        // Until every pod has been looked at, nobody's entry is surplus.
        self.wanted.merge(self.present) { ours, _ in ours }
    }

    /// The entries of one pod, also a predecessor's.
    package func addresses(of uid: String) -> Set<IPAddress> {
        Set(self.present.filter { $0.value == uid }.keys)
    }

    /// Makes `addresses` the entries of the pod. An address that another pod had is taken over (two pods with the same one:
    /// the last wins); an entry that has passed to another pod is left alone.
    package func set(_ uid: String, to addresses: Set<IPAddress>) async throws {
        for (address, owner) in self.wanted where owner == uid && !addresses.contains(address) {
            self.wanted[address] = nil
        }
        for address in addresses { self.wanted[address] = uid }
        try await self.bringAbout()
    }

    /// Drops the entries of pods that are not enrolled.
    package func keep(only uids: Set<String>) async throws {
        self.wanted = self.wanted.filter { uids.contains($0.value) }
        try await self.bringAbout()
    }

    /// Compares with the kernel and repairs.
    /// - Returns: how many entries were missing or foreign.
    package func repair() async throws -> Int {
        let text = self.rules.installation
        self.present = try await self.inHost {
            // Renewing the rules is cheaper than comparing them, and changes nothing for a connection.
            try Nftables.apply(text)
            return try Self.readSets()
        }
        let wanted = self.wanted
        let wrong =
            wanted.count { self.present[$0.key] != $0.value } + self.present.count { wanted[$0.key] == nil }
        try await self.bringAbout()
        return wrong
    }

    package func removeAll() async throws {
        self.wanted = [:]
        self.present = [:]
        try await self.inHost { try Nftables.apply(HostRules.removal) }
    }

    private func bringAbout() async throws {
        let wanted = self.wanted
        guard let text = HostRules.change(from: self.present, to: wanted) else { return }
        // Told before the wait: a second change that comes meanwhile builds on this one.
        let before = self.present
        self.present = wanted
        do {
            try await self.inHost { try Nftables.apply(text) }
        } catch {
            // Somebody else changed the sets; learn what is there and try once more from it.
            let installation = self.rules.installation
            do {
                self.present = try await self.inHost {
                    try Nftables.apply(installation)
                    return try Self.readSets()
                }
                if let text = HostRules.change(from: self.present, to: self.wanted) {
                    try await self.inHost { try Nftables.apply(text) }
                }
                self.present = self.wanted
            } catch {
                self.present = before
                throw error
            }
        }
    }

    private func inHost<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        if let namespace { return try await namespace.perform(body) }
        return try await KernelThread.perform(body)
    }

    private static func readSets() throws -> [IPAddress: String] {
        var found: [IPAddress: String] = [:]
        for set in [HostRules.set(false), HostRules.set(true)] {
            guard let text = try Nftables.listSet(set, table: Redirection.hostTable) else { continue }
            found.merge(try Self.entries(inListing: text)) { $1 }
        }
        return found
    }

    /// `{"nftables":[{"metainfo":{}},{"set":{"elem":["10.0.0.1",{"elem":{"val":"10.0.0.2","comment":"UID"}}]}}]}`
    package static func entries(inListing text: String) throws -> [IPAddress: String] {
        var found: [IPAddress: String] = [:]
        for object in try JSONValue(parsing: text)["nftables"]?.array ?? [] {
            for element in object["set"]?["elem"]?.array ?? [] {
                let value = element.string ?? element["elem"]?["val"]?.string
                guard let address = value.flatMap({ IPAddress($0) }) else { continue }
                found[address] = element["elem"]?["comment"]?.string ?? ""
            }
        }
        return found
    }
}
