package import MeshIdentity
package import MeshTunnel

/// Which certificates are wanted, at hand, being fetched, to be renewed. Decides; does nothing itself.
///
///     initializing ─signed─▶ available ─half of its life─▶ available, renewing ─signed─▶ available
///     initializing ─failed─▶ unavailable ─signed─▶ available
///     available ─expired─▶ unavailable
///     any ─forgotten─▶ gone
///
/// Times are milliseconds since 1970.
package struct CertificateLedger {
    /// Why a certificate is fetched. The most urgent goes first.
    package enum Priority: Int, Hashable, Comparable, Sendable {
        /// Renewal, or another try after a failure.
        case background
        /// A pod of this node will need it.
        case warmup
        /// A connection waits.
        case realTime
        package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }
    package enum Answer: Hashable, Sendable {
        case ready(WorkloadCertificate)
        case unavailable(CertificateUnavailable)
        /// It is being fetched; ask again when ``signed`` or ``failed`` answered for the identity.
        case pending
    }
    package enum State: Hashable, Sendable {
        case initializing
        case available(WorkloadCertificate, notAfter: Int64)
        case unavailable(CertificateUnavailable)
    }
    /// What a fetch is for; its outcome counts only while nobody has forgotten the identity in between.
    package struct Ticket: Hashable, Sendable {
        package let identity: WorkloadIdentity
        fileprivate let generation: UInt64
    }

    private struct Entry {
        var state = State.initializing
        let generation: UInt64
        /// When and how urgently the next fetch is due; nil while one runs.
        var due: (at: Int64, priority: Priority)?
        var failures = 0
        var version: UInt64 = 0
    }

    package static let concurrencyMax = 8
    static let backoffMin: Int64 = 1_000
    static let backoffMax: Int64 = 150_000

    private let concurrency: Int
    private var entries: [WorkloadIdentity: Entry] = [:]
    private var running = 0
    private var generations: UInt64 = 0

    package init(concurrency: Int = Self.concurrencyMax) { self.concurrency = concurrency }

    /// Asks for a certificate, and has it fetched when it is not there.
    package mutating func request(_ identity: WorkloadIdentity, _ priority: Priority, now: Int64) -> Answer {
        guard var entry = self.entries[identity] else {
            self.generations += 1
            self.entries[identity] = Entry(generation: self.generations, due: (now, priority))
            return .pending
        }
        switch entry.state {
        case .available(let certificate, let notAfter):
            if now < notAfter { return .ready(certificate) }
            return .unavailable(
                CertificateUnavailable("the certificate of \(identity) has expired, and renewing it keeps failing"))
        case .unavailable(let reason): return .unavailable(reason)
        case .initializing:
            if let due = entry.due, due.priority < priority {
                entry.due = (min(due.at, now), priority)
                self.entries[identity] = entry
            }
            return .pending
        }
    }

    /// The next fetch to start, if there is one to start now.
    package mutating func next(now: Int64) -> Ticket? {
        guard self.running < self.concurrency else { return nil }
        let ready = self.entries.filter { $0.value.due.map { $0.at <= now } ?? false }
        let best = ready.min { left, right in
            let (one, other) = (left.value.due!, right.value.due!)
            if one.priority != other.priority { return one.priority > other.priority }
            if one.at != other.at { return one.at < other.at }
            return left.value.generation < right.value.generation
        }
        guard let best else { return nil }
        self.entries[best.key]?.due = nil
        self.running += 1
        return Ticket(identity: best.key, generation: best.value.generation)
    }

    /// When ``next(now:)`` has something to start again, if nothing else happens before.
    package var nextDue: Int64? {
        self.running < self.concurrency ? self.entries.values.compactMap { $0.due?.at }.min() : nil
    }

    /// - Parameters:
    ///   - notBefore, notAfter: of the leaf.
    /// - Returns: the certificate with its version, and whether it replaces another; nil when it was forgotten
    ///   meanwhile.
    package mutating func signed(
        _ ticket: Ticket, chain: [[UInt8]], privateKey: [UInt8], roots: [[UInt8]], notBefore: Int64, notAfter: Int64,
        now: Int64
    ) -> (certificate: WorkloadCertificate, isRenewal: Bool)? {
        self.running -= 1
        guard var entry = self.entries[ticket.identity], entry.generation == ticket.generation else { return nil }
        entry.version += 1
        entry.failures = 0
        let certificate = WorkloadCertificate(
            identity: ticket.identity, chain: chain, privateKey: privateKey, roots: roots, version: entry.version)
        entry.state = .available(certificate, notAfter: notAfter)
        // Half of its life, and not at once again when the CA gives out ones that are older than that.
        entry.due = (max(notBefore + (notAfter - notBefore) / 2, now + Self.backoffMin), .background)
        self.entries[ticket.identity] = entry
        return (certificate, entry.version > 1)
    }

    /// - Parameter jitter: 0 to 1, where 0.5 leaves the wait as it is.
    /// - Returns: false when it was forgotten meanwhile.
    package mutating func failed(
        _ ticket: Ticket, _ reason: CertificateUnavailable, now: Int64, jitter: Double
    ) -> Bool {
        self.running -= 1
        guard var entry = self.entries[ticket.identity], entry.generation == ticket.generation else { return false }
        let base = min(Self.backoffMin << Int64(min(entry.failures, 10)), Self.backoffMax)
        // Plus or minus a fifth, so that the pods of a cluster do not come back together.
        let wait = min(Int64(Double(base) * (0.8 + 0.4 * jitter)), Self.backoffMax)
        entry.failures += 1
        var at = now + wait
        switch entry.state {
        case .available(_, let notAfter) where now < notAfter: at = min(at, notAfter)
        case .available, .initializing, .unavailable: entry.state = .unavailable(reason)
        }
        entry.due = (at, .background)
        self.entries[ticket.identity] = entry
        return true
    }

    /// Nobody needs the identity any more.
    package mutating func forget(_ identity: WorkloadIdentity) { self.entries[identity] = nil }

    /// For dumps, sorted by identity.
    package var states: [(identity: WorkloadIdentity, state: State)] {
        self.entries.map { (identity: $0.key, state: $0.value.state) }
            .sorted { $0.identity.description < $1.identity.description }
    }
}
