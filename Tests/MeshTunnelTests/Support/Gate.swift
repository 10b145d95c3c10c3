import Glibc
import Synchronization

/// Blocks threads until it is opened.
final class Gate: Sendable {
    private let isOpen = Atomic(false)

    func open() { self.isOpen.store(true, ordering: .releasing) }

    func waitUntilOpen() {
        while !self.isOpen.load(ordering: .acquiring) { usleep(1000) }
    }

    /// Whether it was open already; it is now.
    func isOpenElseOpen() -> Bool { self.isOpen.exchange(true, ordering: .acquiringAndReleasing) }
}
