import KubeAPI
package import KubeClient
package import Logging

/// Makes the built-in GatewayClasses where they are missing, also when somebody deletes one. A class that exists is never
/// changed.
package struct GatewayClassKeeper: Sendable {
    private let cluster: any KubeCluster
    private let logger: Logger

    package init(_ cluster: any KubeCluster, logger: Logger) {
        self.cluster = cluster
        self.logger = logger
    }

    /// How long until a class that could not be made is tried again.
    private static let retry = Duration.seconds(5)

    /// Until the task is cancelled.
    package func run() async {
        for await event in Informer(self.cluster, .gatewayClasses).events() {
            switch event {
            case .snapshot(let all):
                let present = Set(all.map(\.name))
                for missing in GatewayKind.builtin where !present.contains(missing.name) { await self.make(missing) }
            case .deleted(let object):
                if let missing = GatewayKind.builtin.first(where: { $0.name == object.name }) {
                    await self.make(missing)
                }
            case .updated: break
            }
        }
    }

    private func make(_ builtin: GatewayKind.BuiltinClass) async {
        while !Task.isCancelled {
            do {
                try await self.cluster.create(.gatewayClasses, builtin.object)
                return
            } catch let error as StatusError where error.isAlreadyExists || error.isNotFound {
                // Somebody was faster, or the cluster has no Gateway API: then the informer asks again, and so do we.
                return
            } catch {
                self.logger.warning(
                    "cannot make a GatewayClass; trying again",
                    metadata: ["name": "\(builtin.name)", "why": "\(error)"])
                try? await Task.sleep(for: Self.retry)
            }
        }
    }
}
