package import MeshCA
import Synchronization

/// The pods as the CA needs them, readable from any thread.
package final class PodRegistry: PodDirectory {
    private struct Place: Hashable {
        var namespace, serviceAccount, node: String
    }
    private struct State {
        var pods: [String: PodView] = [:]
        /// How many live pods of an account a node has.
        var live: [Place: Int] = [:]

        mutating func set(_ key: String, _ pod: PodView?) {
            if let old = self.pods[key], let place = Self.place(old) {
                let left = self.live[place, default: 0] - 1
                self.live[place] = left > 0 ? left : nil
            }
            self.pods[key] = pod
            if let pod, let place = Self.place(pod) { self.live[place, default: 0] += 1 }
        }

        private static func place(_ pod: PodView) -> Place? {
            if pod.node.isEmpty || pod.hasEnded { return nil }
            return Place(namespace: pod.namespace, serviceAccount: pod.serviceAccount, node: pod.node)
        }
    }
    private let state = Mutex(State())

    package init() {}

    package func set(_ key: String, _ pod: PodView?) { self.state.withLock { $0.set(key, pod) } }

    package func replaceAll(_ pods: [String: PodView]) {
        self.state.withLock { state in
            state = State()
            for (key, pod) in pods { state.set(key, pod) }
        }
    }

    package func pod(namespace: String, name: String) -> PodFacts? {
        self.state.withLock { $0.pods["\(namespace)/\(name)"] }.map {
            PodFacts(uid: $0.uid, serviceAccount: $0.serviceAccount, node: $0.node)
        }
    }

    package func hasLivePod(namespace: String, serviceAccount: String, node: String) -> Bool {
        self.state.withLock {
            $0.live[Place(namespace: namespace, serviceAccount: serviceAccount, node: node)] != nil
        }
    }
}
