package import Logging
package import MeshCA
package import MeshIdentity
internal import MeshTelemetry
package import MeshTunnel
internal import Synchronization

/// Whoever signs: the CA's client, or a scripted one in tests.
package protocol CertificateSigner: Sendable {
    func sign(_ identity: WorkloadIdentity) async throws -> SignedCertificate
}

extension CertificateClient: CertificateSigner {}

/// Keeps the certificates of this node's workloads: fetches, renews, backs off, forgets. ``CertificateLedger`` decides.
package final class CertificateManager: CertificateSource {
    package typealias Completion = @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void

    /// Connections that may wait for one certificate; more fail at once.
    static let waitersMax = 10_000

    private struct Held {
        var ledger: CertificateLedger
        var waiting: [WorkloadIdentity: [Completion]] = [:]
    }

    private let held: Mutex<Held>
    private let signer: any CertificateSigner
    private let log: Logger
    private let renewed: @Sendable (WorkloadIdentity) -> Void
    private let (wakeups, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    /// - Parameter renewed: called after an identity has got a newer certificate.
    package init(
        signer: any CertificateSigner, log: Logger, concurrency: Int = CertificateLedger.concurrencyMax,
        renewed: @escaping @Sendable (WorkloadIdentity) -> Void = { _ in }
    ) {
        self.signer = signer
        self.log = log
        self.renewed = renewed
        self.held = Mutex(Held(ledger: CertificateLedger(concurrency: concurrency)))
    }

    private static var now: Int64 { Timestamp.microsecondsNow() / 1000 }

    package func certificate(for identity: WorkloadIdentity, completion: @escaping Completion) {
        let answer: Result<WorkloadCertificate, CertificateUnavailable>? = self.held.withLock { held in
            switch held.ledger.request(identity, .realTime, now: Self.now) {
            case .ready(let certificate): return .success(certificate)
            case .unavailable(let reason): return .failure(reason)
            case .pending:
                guard held.waiting[identity, default: []].count < Self.waitersMax else {
                    return .failure(
                        CertificateUnavailable("\(Self.waitersMax) connections wait for a certificate of \(identity)"))
                }
                held.waiting[identity, default: []].append(completion)
                return nil
            }
        }
        if let answer { completion(answer) } else { self.wake.yield() }
    }

    /// A pod of this node will need it.
    package func prefetch(_ identities: some Sequence<WorkloadIdentity>) {
        self.held.withLock { held in
            for identity in identities { _ = held.ledger.request(identity, .warmup, now: Self.now) }
        }
        self.wake.yield()
    }

    /// The last pod of this node with the identity is gone.
    package func forget(_ identities: some Sequence<WorkloadIdentity>) {
        var left: [(WorkloadIdentity, [Completion])] = []
        self.held.withLock { held in
            for identity in identities {
                held.ledger.forget(identity)
                left.append((identity, held.waiting.removeValue(forKey: identity) ?? []))
            }
        }
        for (identity, completions) in left {
            for completion in completions {
                completion(.failure(CertificateUnavailable("\(identity) was forgotten: no pod of this node has it")))
            }
        }
        self.wake.yield()
    }

    /// Between two looks of ``waitForFirst(within:)``.
    static let lookInterval = Duration.milliseconds(20)

    /// Returns when every identity asked for so far had its first answer, be it a failure: one that the CA refuses is the
    /// trouble of its own pods. While nobody has got a certificate it is the CA that is in trouble, and all wait for it
    /// until the limit is over.
    package func waitForFirst(within limit: Duration) async {
        let end = ContinuousClock.now + limit
        while !Task.isCancelled {
            let states = self.states.map(\.state)
            let isWaiting = states.contains(.initializing)
            let hasAny = states.contains { if case .available = $0 { true } else { false } }
            if states.isEmpty || (!isWaiting && hasAny) { return }
            guard ContinuousClock.now < end else {
                let missing = states.count { if case .available = $0 { false } else { true } }
                return self.log.warning(
                    "\(missing) of \(states.count) certificates are missing after \(limit); serving pods all the same")
            }
            try? await Task.sleep(for: Self.lookInterval)
        }
    }

    package var states: [(identity: WorkloadIdentity, state: CertificateLedger.State)] {
        self.held.withLock { $0.ledger.states }
    }

    /// Fetches and renews until the task is cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await _ in self.wakeups {
                if Task.isCancelled { break }
                while let ticket = self.held.withLock({ $0.ledger.next(now: Self.now) }) {
                    group.addTask { await self.fetch(ticket) }
                }
                guard let due = self.held.withLock({ $0.ledger.nextDue }) else { continue }
                // One alarm per round; an alarm that a later round has made needless only wakes for nothing.
                let wait = Duration.milliseconds(max(due - Self.now, 1))
                self.setAlarm(wait, &group)
            }
            group.cancelAll()
        }
    }

    private let alarm = Mutex<Task<Void, Never>?>(nil)

    private func setAlarm(_ wait: Duration, _ group: inout DiscardingTaskGroup) {
        let wake = self.wake
        let task = Task {
            do { try await Task.sleep(for: wait) } catch { return }
            wake.yield()
        }
        self.alarm.withLock { alarm in
            alarm?.cancel()
            alarm = task
        }
        group.addTask {
            await withTaskCancellationHandler {
                await task.value
            } onCancel: {
                task.cancel()
            }
        }
    }

    private func fetch(_ ticket: CertificateLedger.Ticket) async {
        let identity = ticket.identity
        var outcome: Result<WorkloadCertificate, CertificateUnavailable>?
        do {
            let signed = try await self.signer.sign(identity)
            let kept = self.held.withLock { held in
                held.ledger.signed(
                    ticket, chain: signed.chain, privateKey: signed.privateKey, roots: signed.roots,
                    notBefore: signed.notBefore * 1000, notAfter: signed.notAfter * 1000, now: Self.now)
            }
            if let kept {
                outcome = .success(kept.certificate)
                self.log.debug("certificate fetched", metadata: ["identity": "\(identity)"])
                if kept.isRenewal { self.renewed(identity) }
            }
        } catch {
            let reason = CertificateUnavailable("no certificate for \(identity): \(error)")
            let counts = self.held.withLock { held in
                held.ledger.failed(ticket, reason, now: Self.now, jitter: Double.random(in: 0...1))
            }
            if counts {
                outcome = .failure(reason)
                if !(error is CancellationError) { self.log.warning("\(reason)") }
            }
        }
        if let outcome {
            // Those waiting get this outcome, also a failure while an older certificate is still good.
            for completion in self.held.withLock({ $0.waiting.removeValue(forKey: identity) ?? [] }) {
                completion(outcome)
            }
        }
        self.wake.yield()
    }
}
