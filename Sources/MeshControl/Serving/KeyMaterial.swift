import Foundation
import Logging
import MeshCA
import Synchronization

/// The authority in force, readable from any thread, and who wants to know when it is another.
final class KeyMaterial: Sendable {
    private struct State {
        var transition: TrustTransition
        var listeners: [AsyncStream<Void>.Continuation] = []
        /// What was said last, so that a state is logged once and not at every look.
        var lastStep = TrustTransition.Step.unchanged
    }
    private let state: Mutex<State>
    private let logger: Logger

    init(_ first: CertificateAuthority, overlap: Duration, logger: Logger) {
        self.state = Mutex(State(transition: TrustTransition(first, overlap: overlap)))
        self.logger = logger
    }

    var current: CertificateAuthority { self.state.withLock { $0.transition.inForce } }

    /// One element after each change; several changes may give one.
    func changes() -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.state.withLock { $0.listeners.append(continuation) }
        return stream
    }

    /// Takes over what is stored, as far as that leaves every certificate of the mesh verifiable.
    func offer(_ stored: CertificateAuthority, now: Date = Date()) {
        let (step, isNew, listeners) = self.state.withLock { state in
            let before = state.transition.inForce
            let step = state.transition.offer(stored, now: now)
            let after = state.transition.inForce
            let hasChanged =
                before.rootsPEM != after.rootsPEM || before.certificatePEM != after.certificatePEM
                || before.revocationsPEM != after.revocationsPEM
            defer { state.lastStep = step }
            return (step, step != state.lastStep, hasChanged ? state.listeners : [])
        }
        for listener in listeners { listener.yield() }
        guard isNew else { return }
        switch step {
        case .unchanged: break
        case .adopted:
            self.logger.notice("the CA uses new key material", metadata: ["until": "\(stored.notAfter)"])
        case .staged(let date):
            self.logger.notice(
                "the CA hands out new root certificates; it signs with the new key once all workloads know them",
                metadata: ["from": "\(date)"])
        case .refused(let why): self.logger.error("the CA keeps its key material", metadata: ["why": "\(why)"])
        }
    }
}
