package import MeshLinux
internal import Synchronization

/// Does to the inside of a pod what its enrolment asks for. Every call enters the pod's namespace on a thread of its own.
package struct PodNetwork: Sendable {
    private let routing: ReplyRouting
    /// `/host/proc/sys`: the container's own `/proc/sys` is read-only.
    private let settingsRoot: String
    private let limit: ConcurrencyLimit
    private let canonical = CanonicalListings()

    /// As many pods are worked on at the same time; each costs one `nft` process of about 15 ms.
    static let concurrencyMax = 4

    package init(procRoot: String, isIPv6Enabled: Bool) {
        self.routing = ReplyRouting(
            table: Redirection.routeTable, mark: Redirection.connectionMark, mask: Redirection.markMask,
            preference: Redirection.rulePreference, isIPv6Enabled: isIPv6Enabled)
        self.settingsRoot = "\(procRoot)/sys"
        self.limit = ConcurrencyLimit(Self.concurrencyMax)
    }

    package struct Captured: Sendable {
        /// Connections that were open before and pass by the proxy until they end.
        package let openConnections: Int
        /// Why the setting for proxy hand-overs could not be made; nil when it was.
        package let handOverTrouble: String?
        /// The rules were in place already.
        package let wasThere: Bool
    }

    /// Routes, hand-over setting and rules. What is in place already is left alone.
    ///
    /// - Parameter isNew: nothing can be in place, so nobody looks: a pod waits for us.
    package func capture(
        _ namespace: SharedNetworkNamespace, _ rules: PodRules, isNew: Bool = false
    ) async throws -> Captured {
        try await self.limit.run {
            try await namespace.perform {
                let wasRouted = try self.routing.install() == 0
                let open = try Self.openConnections()
                var trouble: String?
                do throws(SystemError) {
                    // Connections that wait on a closing listener move to the listener of the next proxy (Linux 5.14).
                    try Files.writeSetting("1", to: self.migrationSetting)
                    if !self.migratesConnections { trouble = "\(self.migrationSetting) does not keep what is written" }
                } catch {
                    trouble = "\(error)"
                }
                let text = rules.capture
                // Each look is one more process of nft.
                let wanted = self.canonical[text]
                let isThere = try !isNew && wanted != nil && Nftables.list(table: Redirection.podTable) == wanted
                if !isThere {
                    try Nftables.apply(text)
                    let isKnown = isNew && wanted != nil
                    if !isKnown, let listing = try Nftables.list(table: Redirection.podTable) {
                        self.canonical[text] = listing
                    }
                }
                return Captured(openConnections: open, handOverTrouble: trouble, wasThere: isThere && wasRouted)
            }
        }
    }

    private var migrationSetting: String { "\(self.settingsRoot)/net/ipv4/tcp_migrate_req" }

    /// Whether the setting is on in the namespace of the calling thread. A kernel that does not know it has nothing to
    /// put right.
    private var migratesConnections: Bool {
        guard let text = try? Files.readText(self.migrationSetting) else { return true }
        return text.hasPrefix("1")
    }

    /// True when routes, rules or the hand-over setting are not what ``capture(_:_:)`` made. Missing routes are put
    /// back on the way.
    package func hasDrifted(_ namespace: SharedNetworkNamespace, _ rules: PodRules) async throws -> Bool {
        try await self.limit.run {
            try await namespace.perform {
                let missing = try self.routing.install()
                guard let wanted = self.canonical[rules.capture], self.migratesConnections else { return true }
                return try missing > 0 || Nftables.list(table: Redirection.podTable) != wanted
            }
        }
    }

    package func drain(_ namespace: SharedNetworkNamespace, _ rules: PodRules) async throws {
        try await self.limit.run {
            try await namespace.perform { try Nftables.apply(rules.drain) }
        }
    }

    package func removeAll(_ namespace: SharedNetworkNamespace) async throws {
        try await self.limit.run {
            try await namespace.perform {
                try Nftables.apply(PodRules.removal)
                try self.routing.remove()
            }
        }
    }

    /// Connections that the proxy serves in the pod, told from its sockets: no help of the proxy is needed.
    package func servedConnections(_ namespace: SharedNetworkNamespace) async throws -> Int {
        try await namespace.perform { try SocketTable.liveConnections(toLocalPorts: Redirection.capturePorts) }
    }

    /// Connections with other machines that no proxy socket takes part in.
    private static func openConnections() throws -> Int {
        try SocketTable.sockets().count { socket in
            socket.state == 1 && !socket.isRemoteLoopback && !Redirection.capturePorts.contains(socket.localPort)
                && !Redirection.capturePorts.contains(socket.remotePort)
        }
    }
}

/// How the kernel words a ruleset once it has it, learned by applying it: the yardstick for drift, and what lets an agent
/// that restarts leave the rules of most pods untouched. Few entries: pods differ in few ways.
private final class CanonicalListings: Sendable {
    static let entriesMax = 256
    private let listings = Mutex<[String: String]>([:])

    subscript(rules: String) -> String? {
        get { self.listings.withLock { $0[rules] } }
        set {
            self.listings.withLock { listings in
                if listings.count >= Self.entriesMax { listings.removeAll() }
                listings[rules] = newValue
            }
        }
    }
}

/// At most so many at a time; the others wait in order.
actor ConcurrencyLimit {
    private var free: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(_ count: Int) { self.free = count }

    nonisolated func run<Value: Sendable>(_ body: @Sendable () async throws -> Value) async rethrows -> Value {
        await self.enter()
        do {
            let value = try await body()
            await self.leave()
            return value
        } catch {
            await self.leave()
            throw error
        }
    }

    private func enter() async {
        if self.free > 0 {
            self.free -= 1
            return
        }
        await withCheckedContinuation { self.waiting.append($0) }
    }

    private func leave() {
        if self.waiting.isEmpty { self.free += 1 } else { self.waiting.removeFirst().resume() }
    }
}
