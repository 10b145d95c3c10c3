import KubeAPI
package import KubeClient
package import Logging
import MeshModel
import Synchronization

/// Writes the addresses of an ``AddressPlan`` into ServiceEntries' statuses. Only the leader runs it.
package final class AddressAllocator: Sendable {
    /// How long more changes are waited for; one plan looks at every object.
    private static let settleTime = Duration.milliseconds(50)
    private static let retryAfter = Duration.seconds(5)

    private let cluster: any KubeCluster
    private let logger: Logger
    private struct State {
        var plan = AddressPlan()
        var entries: [String: ServiceEntryView] = [:]
        var lacking: Set<String> = []
        var isListed = false
        var wake: AsyncStream<Void>.Continuation?
    }
    private let state = Mutex(State())

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    package func observed(_ key: String, _ view: ServiceEntryView?) {
        self.state.withLock { state in
            state.entries[key] = view
            state.wake?.yield()
        }
    }

    package func observed(all views: [String: ServiceEntryView]) {
        self.state.withLock { state in
            state.entries = views
            state.isListed = true
            state.wake?.yield()
        }
    }

    package func run() async {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.state.withLock { $0.wake = wake }
        defer { self.state.withLock { $0.wake = nil } }
        wake.yield()
        for await _ in signals {
            try? await Task.sleep(for: Self.settleTime)
            if Task.isCancelled { return }
            var isComplete = true
            for (key, addresses) in self.decide().sorted(by: { $0.key < $1.key }) {
                if Task.isCancelled { return }
                if await !self.write(key, addresses) { isComplete = false }
            }
            if !isComplete {
                try? await Task.sleep(for: Self.retryAfter)
                wake.yield()
            }
        }
    }

    private func decide() -> [String: [ServiceEntryView.AllocatedAddress]] {
        let (outcome, isNews) = self.state.withLock { state in
            // Before everything is listed, an address that is taken looks free.
            let outcome = state.isListed ? state.plan.decide(state.entries) : AddressPlan.Outcome()
            let isNews = outcome.lacking != state.lacking
            state.lacking = outcome.lacking
            return (outcome, isNews)
        }
        if isNews, !outcome.lacking.isEmpty {
            self.logger.error(
                "no virtual address is left",
                metadata: ["hosts": "\(outcome.lacking.sorted().prefix(20).joined(separator: ", "))"])
        }
        return outcome.changes
    }

    /// The patch holds only if the addresses are still those that the plan saw: another writer's are never lost.
    private func write(_ key: String, _ addresses: [ServiceEntryView.AllocatedAddress]) async -> Bool {
        guard let view = self.state.withLock({ $0.entries[key] }), let name = NamespacedName(key) else { return true }
        let wanted = JSONValue.array(addresses.map(Self.json))
        do {
            let live = try await self.cluster.get(.serviceEntries, namespace: name.namespace, name: name.name)
            guard ServiceEntryView(live) == view else { return false }
            var operations: [JSONValue] = [
                ["op": "test", "path": "/metadata/resourceVersion", "value": .string(live.resourceVersion)]
            ]
            if live.json["status"]?.object == nil {
                operations.append(["op": "add", "path": "/status", "value": ["addresses": wanted]])
            } else {
                operations.append(["op": "add", "path": "/status/addresses", "value": wanted])
            }
            let written = try await self.cluster.patch(
                .serviceEntries, namespace: name.namespace, name: name.name, subresource: "status",
                .json(.array(operations)))
            // Not to be decided once more before the watch brings it.
            let next = ServiceEntryView(written)
            self.state.withLock { if $0.entries[key] == view { $0.entries[key] = next } }
            return true
        } catch let error as StatusError where error.isNotFound {
            return true
        } catch {
            self.logger.warning(
                "cannot write virtual addresses", metadata: ["serviceEntry": "\(key)", "why": "\(error)"])
            return false
        }
    }

    private static func json(_ allocated: ServiceEntryView.AllocatedAddress) -> JSONValue {
        ["value": .string(allocated.address.description), "host": .string(allocated.host)]
    }
}
