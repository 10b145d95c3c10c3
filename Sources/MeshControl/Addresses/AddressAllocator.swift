import KubeAPI
package import KubeClient
package import Logging
import MeshModel

/// Writes the addresses of an ``AddressPlan`` into ServiceEntries' statuses. Only the leader runs it.
package actor AddressAllocator {
    /// How long more changes are waited for; one plan looks at every object.
    private static let settleTime = Duration.milliseconds(50)
    private static let retryAfter = Duration.seconds(5)

    private let cluster: any KubeCluster
    private let logger: Logger
    private var plan = AddressPlan()
    private var entries: [String: ServiceEntryView] = [:]
    private var lacking: Set<String> = []
    private var isListed = false
    private var wake: AsyncStream<Void>.Continuation?

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    package func observed(_ key: String, _ view: ServiceEntryView?) {
        self.entries[key] = view
        self.wake?.yield()
    }

    package func observed(all views: [String: ServiceEntryView]) {
        self.entries = views
        self.isListed = true
        self.wake?.yield()
    }

    package func run() async {
        let (signals, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.wake = wake
        defer { self.wake = nil }
        wake.yield()
        for await _ in signals {
            try? await Task.sleep(for: Self.settleTime)
            if Task.isCancelled { return }
            guard self.isListed else { continue }
            let outcome = self.plan.decide(self.entries)
            if outcome.lacking != self.lacking, !outcome.lacking.isEmpty {
                self.logger.error(
                    "no virtual address is left",
                    metadata: ["hosts": "\(outcome.lacking.sorted().prefix(20).joined(separator: ", "))"])
            }
            self.lacking = outcome.lacking
            var isComplete = true
            for (key, addresses) in outcome.changes.sorted(by: { $0.key < $1.key }) {
                if Task.isCancelled { return }
                if await !self.write(key, addresses) { isComplete = false }
            }
            if !isComplete {
                try? await Task.sleep(for: Self.retryAfter)
                wake.yield()
            }
        }
    }

    /// The patch holds only if the addresses are still those that the plan saw: another writer's are never lost.
    private func write(_ key: String, _ addresses: [ServiceEntryView.AllocatedAddress]) async -> Bool {
        guard let view = self.entries[key], let name = NamespacedName(key) else { return true }
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
            if self.entries[key] == view { self.entries[key] = ServiceEntryView(written) }
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
