internal import Foundation

/// One command at a time per cluster.
struct LabLock {
    private let descriptor: CInt
    private let path: String

    /// - Parameters:
    ///   - patience: how long another command may take to end before this one gives up.
    ///   - onWait: called once, when there is something to wait for.
    static func take(
        _ path: String, cluster: String, within patience: Duration = .zero, onWait: () -> Void = {}
    ) async throws -> LabLock {
        let deadline = ContinuousClock.now + patience
        var isWaiting = false
        while true {
            if let lock = try LabLock(path) { return lock }
            if ContinuousClock.now >= deadline {
                throw LabError("another command works on cluster \(cluster) right now; try again when it is done")
            }
            if !isWaiting { onWait() }
            isWaiting = true
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    /// Nil when another command holds it.
    private init?(_ path: String) throws(LabError) {
        do {
            try FileManager.default.createDirectory(
                atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        } catch {
            throw LabError("cannot make the directory of \(path): \(error)")
        }
        while true {
            let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw LabError("cannot open \(path): \(String(cString: strerror(errno)))") }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                close(descriptor)
                return nil
            }
            // A deletion may have taken the file away between the two calls: then we hold a lock nobody else sees.
            var held = stat()
            var there = stat()
            if fstat(descriptor, &held) == 0, stat(path, &there) == 0, held.st_ino == there.st_ino {
                self.descriptor = descriptor
                self.path = path
                return
            }
            close(descriptor)
        }
    }

    /// - Parameter removing: whether the file goes, too: after a deletion nothing is left to guard.
    func release(removing: Bool = false) {
        if removing { unlink(self.path) }
        close(self.descriptor)
    }
}
