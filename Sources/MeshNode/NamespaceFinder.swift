internal import MeshLinux
internal import MeshModel

/// Finds pods' namespaces in `/proc`. A walk over all processes serves every pod that was asked for meanwhile.
actor NamespaceFinder {
    private let processes: ProcessTable
    private let host: NetworkNamespace.Identity?
    private var wanted: [String: Set<[UInt8]>] = [:]
    private var walk: Task<[String: SharedNetworkNamespace], Never>?

    /// Requests that come within this time share a walk; enrolling a namespace asks for many pods at once.
    static let gatherTime = Duration.milliseconds(20)

    init(procRoot: String, host: NetworkNamespace.Identity?) {
        self.processes = ProcessTable(root: procRoot)
        self.host = host
    }

    func find(_ uid: String, _ addresses: Set<IPAddress>) async -> SharedNetworkNamespace? {
        self.wanted[uid] = Set(addresses.map(\.bytes))
        let walk = self.walk ?? self.startWalk()
        return await walk.value[uid]
    }

    private func startWalk() -> Task<[String: SharedNetworkNamespace], Never> {
        let walk = Task {
            try? await Task.sleep(for: Self.gatherTime)
            return await self.gathered()
        }
        self.walk = walk
        return walk
    }

    private func gathered() async -> [String: SharedNetworkNamespace] {
        let wanted = self.wanted
        // Whoever asks from here on waits for the next walk.
        self.wanted = [:]
        self.walk = nil
        let processes = self.processes
        let host = self.host
        return await processes.namespaces(ofPods: wanted, excluding: host)
    }
}
