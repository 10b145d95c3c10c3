import MeshModel
import Synchronization

/// Which accounts run which waypoints, readable from any thread.
package final class WaypointRegistry: Sendable {
    private struct State {
        var accounts: [NamespacedName: Set<String>] = [:]
        /// By `namespace/serviceAccount`: names of Gateways.
        var gateways: [String: Set<String>] = [:]
    }
    private let state = Mutex(State())

    package init() {}

    /// - Parameter accounts: of the Gateway's namespace; nil when there is no such waypoint any more.
    func set(_ gateway: NamespacedName, _ accounts: Set<String>?) {
        self.state.withLock { state in
            for account in state.accounts[gateway] ?? [] {
                state.gateways["\(gateway.namespace)/\(account)"]?.remove(gateway.name)
            }
            state.accounts[gateway] = accounts
            for account in accounts ?? [] {
                state.gateways["\(gateway.namespace)/\(account)", default: []].insert(gateway.name)
            }
        }
    }

    package func gateways(of account: String) -> Set<String> { self.state.withLock { $0.gateways[account] ?? [] } }
}
