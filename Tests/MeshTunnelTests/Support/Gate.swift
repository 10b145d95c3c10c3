import Glibc
import Synchronization

/// Blocks threads until it is opened.
final class Gate: Sendable {
    private let state = Atomic(false)

    var isOpen: Bool { self.state.load(ordering: .acquiring) }
    func open() { self.state.store(true, ordering: .releasing) }

    func waitUntilOpen() {
        while !self.isOpen { usleep(1000) }
    }

    /// Whether it was open already; it is now.
    func isOpenElseOpen() -> Bool { self.state.exchange(true, ordering: .acquiringAndReleasing) }
}
