package import MeshModel
import Synchronization

/// Who runs a waypoint, and what.
package struct WaypointRunners: Hashable, Sendable {
    /// Of the Gateway's namespace.
    package var accounts: Set<String>
    package var engine: WaypointEngine

    package init(accounts: Set<String>, engine: WaypointEngine = .martlet) {
        self.accounts = accounts
        self.engine = engine
    }
}

/// Which accounts run which waypoints, readable from any thread.
package final class WaypointRegistry: Sendable {
    private struct State {
        var accounts: [NamespacedName: Set<String>] = [:]
        /// By `namespace/serviceAccount`: names of Gateways.
        var gateways: [String: Set<String>] = [:]
        /// Waypoints that run Envoy.
        var envoys: Set<NamespacedName> = []
    }
    private let state = Mutex(State())

    package init() {}

    /// - Parameter runners: nil when there is no such waypoint any more.
    func set(_ gateway: NamespacedName, _ runners: WaypointRunners?) {
        let accounts = runners?.accounts
        self.state.withLock { state in
            if runners?.engine == .envoy { state.envoys.insert(gateway) } else { state.envoys.remove(gateway) }
            for account in state.accounts[gateway] ?? [] {
                state.gateways["\(gateway.namespace)/\(account)"]?.remove(gateway.name)
            }
            state.accounts[gateway] = accounts
            for account in accounts ?? [] {
                state.gateways["\(gateway.namespace)/\(account)", default: []].insert(gateway.name)
            }
        }
    }

    package func runsEnvoy(_ gateway: NamespacedName) -> Bool { self.state.withLock { $0.envoys.contains(gateway) } }

    package func gateways(of account: String) -> Set<String> { self.state.withLock { $0.gateways[account] ?? [] } }
}
