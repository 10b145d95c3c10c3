public import Foundation
import X509

/// From one CA to the next without a moment in which a certificate of the mesh cannot be verified.
///
/// A workload learns the roots together with its own certificate, so what it trusts can be as old as that. Therefore
/// 1. a new signer is used only when the root above it was handed out for so long that everybody has it; until then the
///    old one goes on signing, and the new roots are handed out;
/// 2. a root is handed out as long as there are certificates that need it.
///
/// Decides; does nothing itself. It knows only what it saw: after a restart the key material that is stored is in force.
public struct TrustTransition: Sendable {
    public enum Step: Hashable, Sendable {
        case unchanged
        case adopted
        /// The roots are handed out, the signer is used from then on, if it is offered again.
        case staged(until: Date)
        case refused(String)
    }

    public private(set) var inForce: CertificateAuthority
    private let overlap: Duration
    /// When a root was first handed out.
    private var since: [Certificate: Date] = [:]
    /// Signers of certificates that may still be in use.
    private var retired: [(authority: CertificateAuthority, at: Date)] = []

    /// - Parameters:
    ///   - first: what everybody knows.
    ///   - overlap: after so long everybody has a new certificate, and the roots that came with it.
    public init(_ first: CertificateAuthority, overlap: Duration = CertificateAuthority.workloadTTL) {
        self.inForce = first
        self.overlap = overlap
        for root in first.roots { self.since[root] = .distantPast }
    }

    /// Call it again and again with what is stored.
    public mutating func offer(_ next: CertificateAuthority, now: Date = Date()) -> Step {
        let seconds = Double(self.overlap.components.seconds)
        self.retired.removeAll { $0.at + seconds <= now }
        let current = self.inForce
        if next.certificatePEM == current.certificatePEM, next.rootsPEM == current.rootsPEM,
            next.revocationsPEM == current.revocationsPEM
        {
            return .unchanged
        }
        guard current.isTrusted(by: next.roots), self.retired.allSatisfy({ $0.authority.isTrusted(by: next.roots) })
        else {
            return .refused(
                "the new root certificates leave out one that certificates in use lead to; keep the old root beside the "
                    + "new one until \(self.overlap) after the new signer is in use, or restart the control plane to "
                    + "accept that workloads cannot reach each other until all have new certificates")
        }
        let known = current.roots.filter { self.since[$0].map { $0 + seconds <= now } ?? false }
        if next.isTrusted(by: known) {
            if next.certificatePEM != current.certificatePEM { self.retired.append((current, now)) }
            self.handOut(next, now)
            return .adopted
        }
        do throws(AuthorityError) {
            self.handOut(try current.handingOut(next, now: now), now)
        } catch {
            return .refused(error.description)
        }
        let above = next.roots.filter { next.isTrusted(by: CollectionOfOne($0)) }
        let first = above.compactMap { self.since[$0] }.min() ?? now
        return .staged(until: first + seconds)
    }

    private mutating func handOut(_ next: CertificateAuthority, _ now: Date) {
        let old = self.since
        self.since = [:]
        for root in next.roots { self.since[root] = old[root] ?? now }
        self.inForce = next
    }
}
