package import Logging
internal import MeshLinux
internal import MeshLoop
internal import MeshTelemetry
package import MeshTunnel
internal import Synchronization

/// Follows the file of revocation lists that `CRL_PATH` names, as a mounted ConfigMap or any other writer replaces it.
///
///     no file yet: nothing is revoked, and it is looked for ─readable─▶ in force ─newer, readable─▶ in force
///     in force ─newer, unreadable─▶ in force as before, with an error in the log
///     unreadable from the start: peers are refused until it is readable
///
/// A ConfigMap that does not exist is mounted as an empty directory, so a missing file is no mistake. A file that was
/// there and is gone keeps what it said.
package final class RevocationWatch: Sendable {
    /// Above what a ConfigMap can hold (1 MiB); a list of a million certificates has about 40 MB.
    static let fileBytesMax = 64 << 20
    /// A change is taken over when the file has looked the same twice: whoever writes it has then finished. So a change
    /// is in force after one to two of these.
    package static let lookInterval = Duration.seconds(1)

    private struct State {
        /// At the last look; nil: there was no file.
        var seen: Files.Information?
        /// What the last attempt to load, or to do without, was made of.
        var taken: Files.Information?
        var lookError: String?
        var inForce: RevocationList?
        var wasOutdated = false
    }
    private enum Next { case nothing, load, missing, gone }

    private let path: String
    private let interval: Duration
    private let log: Logger
    private let publish: @Sendable (Revocation) -> Void
    private let state = Mutex(State())

    /// - Parameter publish: called with everything that is to be in force from then on, one call after the other.
    package init(
        path: String, interval: Duration = RevocationWatch.lookInterval, log: Logger,
        publish: @escaping @Sendable (Revocation) -> Void
    ) {
        self.path = path
        self.interval = interval
        self.log = log
        self.publish = publish
    }

    /// Reads the file as it is now: before the first peer is talked to.
    package func start() { self.look(isFirst: true) }

    /// Until the task is cancelled.
    package func run() async {
        while true {
            do { try await Task.sleep(for: self.interval) } catch { return }
            self.look(isFirst: false)
        }
    }

    private func look(isFirst: Bool) {
        let found: Files.Information?
        do {
            found = try Files.information(self.path)
        } catch {
            let isNew = self.state.withLock { state in
                defer { state.lookError = "\(error)" }
                return state.lookError != "\(error)"
            }
            return isNew ? self.failed("\(error)") : ()
        }
        let next: Next = self.state.withLock { state in
            let isStable = isFirst || state.seen == found
            // After a look that failed everything is new.
            let isNew = isFirst || state.taken != found || state.lookError != nil
            state.seen = found
            guard isStable, isNew else { return .nothing }
            state.lookError = nil
            state.taken = found
            return found != nil ? .load : state.inForce == nil ? .missing : .gone
        }
        switch next {
        case .nothing: break
        case .load: self.load()
        case .missing:
            // Not "ignored": peers that come meanwhile are to be known when there is a list.
            if let nothing = try? RevocationList([]) { self.publish(.list(nothing)) }
            self.log.warning(
                "no revocation list is there yet: nothing counts as revoked until one is", metadata: self.place)
        case .gone:
            self.log.error(
                "the revocation list is gone; what it said stays in force until another is there", metadata: self.place)
        }
        self.warnWhenOutdated()
    }

    private func load() {
        let list: RevocationList
        do {
            list = try RevocationList(try Files.read(self.path, bytesMax: Self.fileBytesMax))
        } catch {
            return self.failed("\(error)")
        }
        self.state.withLock {
            $0.inForce = list
            $0.wasOutdated = false
        }
        self.publish(.list(list))
        self.log.info(
            "revocation list loaded",
            metadata: ["path": "\(self.path)", "lists": "\(list.lists)", "revoked": "\(list.entries)"])
    }

    private func failed(_ reason: String) {
        let metadata: Logger.Metadata = ["path": "\(self.path)", "error": "\(reason)"]
        if self.state.withLock({ $0.inForce != nil }) {
            self.log.error(
                "the new revocation list cannot be used; the last good one stays in force", metadata: metadata)
        } else {
            self.publish(.unreadable(reason))
            self.log.error(
                "the revocation list cannot be used, so all HBONE peers are refused; correct the file, or unset CRL_PATH",
                metadata: metadata)
        }
    }

    private func warnWhenOutdated() {
        let now = Timestamp.microsecondsNow() / 1_000_000
        let isNew = self.state.withLock { state in
            guard let list = state.inForce, list.isOutdated(nowSeconds: now) else { return false }
            defer { state.wasOutdated = true }
            return !state.wasOutdated
        }
        if isNew {
            self.log.warning(
                "a revocation list should have been replaced by now; it stays in force, but does its issuer still run?",
                metadata: self.place)
        }
    }

    private var place: Logger.Metadata { ["path": "\(self.path)"] }
}
