package import MeshModel
import Synchronization

/// Which pods have a sidecar, readable from any thread.
package final class SidecarRegistry: Sendable {
    private let pods = Mutex<[NamespacedName: SidecarPod]>([:])

    package init() {}

    /// - Parameter sidecar: nil when the pod is gone, or has none any more.
    package func set(_ pod: NamespacedName, _ sidecar: SidecarPod?) { self.pods.withLock { $0[pod] = sidecar } }

    package func pod(_ name: NamespacedName) -> SidecarPod? { self.pods.withLock { $0[name] } }
}
