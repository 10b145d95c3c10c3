/// Finds the network namespaces of running pods through the processes inside them.
public struct ProcessTable: Sendable {
    /// A mounted procfs that shows the node's processes: `/proc`, or `/host/proc` in a pod.
    public let root: String

    public init(root: String) { self.root = root }

    private struct Candidate {
        let namespace: SharedNetworkNamespace
        let startTime: UInt64
    }

    /// - Parameters:
    ///   - wanted: for each pod UID its addresses, 4 or 16 bytes each. A namespace counts only when an interface in it
    ///     carries one of them: a process of another pod may be passing through. No address: not found this time.
    ///   - host: the node's own namespace, never a pod's.
    /// - Returns: the namespaces found; with several for one pod that of the oldest process.
    public func namespaces(
        ofPods wanted: [String: Set<[UInt8]>], excluding host: NetworkNamespace.Identity?
    ) async -> [String: SharedNetworkNamespace] {
        var best: [String: Candidate] = [:]
        var seen: Set<NetworkNamespace.Identity> = []
        for process in (try? Files.list(self.root)) ?? [] where process.utf8.allSatisfy({ (48...57).contains($0) }) {
            // A process may end between any two of these reads; it is skipped then.
            guard let identity = try? NetworkNamespace.identity(ofPath: "\(self.root)/\(process)/ns/net"),
                identity != host, !seen.contains(identity),
                let cgroup = try? Files.readText("\(self.root)/\(process)/cgroup"),
                let uid = PodCgroup.podUID(in: cgroup), let addresses = wanted[uid], !addresses.isEmpty,
                let startTime = (try? Files.readText("\(self.root)/\(process)/stat")).flatMap(Self.startTime),
                let namespace = Self.open("\(self.root)/\(process)/ns/net"),
                let present = try? await namespace.perform({ try InterfaceAddresses.all() }),
                !addresses.isDisjoint(with: present)
            else { continue }
            seen.insert(namespace.identity)
            if let rival = best[uid], rival.startTime <= startTime { continue }
            best[uid] = Candidate(namespace: namespace, startTime: startTime)
        }
        return best.mapValues(\.namespace)
    }

    private static func open(_ path: String) -> SharedNetworkNamespace? {
        guard let namespace = try? NetworkNamespace(path: path) else { return nil }
        return try? SharedNetworkNamespace(namespace)
    }

    /// Field 22 of `/proc/PID/stat`: clock ticks since boot. The name (field 2) may hold spaces and parentheses, so
    /// counting starts after the last `)`.
    package static func startTime(_ stat: String) -> UInt64? {
        guard let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }
}
