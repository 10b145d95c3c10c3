internal import MeshIdentity
package import MeshLoop

/// Makes the sessions of one identity at one certificate version.
package protocol IdentityContexts: AnyObject, Sendable {
    /// Nil when memory is short.
    func session(isServer: Bool) -> (any SecureSession)?
}

/// The product's: TLS 1.3 with the identity's certificate.
final class TLSIdentityContexts: IdentityContexts {
    private let client, server: TLSContext

    init(_ certificate: WorkloadCertificate, onlyPostQuantum: Bool) throws(TLSContextError) {
        func context(_ role: TLSContext.Role) throws(TLSContextError) -> TLSContext {
            try TLSContext(
                role: role, chain: certificate.chain, privateKey: certificate.privateKey, roots: certificate.roots,
                onlyPostQuantum: onlyPostQuantum)
        }
        self.client = try context(.client)
        self.server = try context(.server)
    }

    func session(isServer: Bool) -> (any SecureSession)? { TLSSession(isServer ? self.server : self.client) }
}

package typealias ContextMaker = @Sendable (WorkloadCertificate) throws -> any IdentityContexts

/// One loop's TLS contexts: fetched when first needed, kept until the certificate is renewed.
final class TunnelContexts {
    /// Identities kept; far more than a node has pods. Beyond it, all are dropped and fetched again.
    static let identitiesMax = 4096

    typealias Waiter = (Result<any IdentityContexts, TunnelError>) -> Void

    private enum Entry {
        case ready(any IdentityContexts)
        /// `generation` tells a late answer from the one that is waited for.
        case fetching(generation: UInt64, waiters: [Waiter])
    }

    private let source: any CertificateSource
    private let make: ContextMaker
    private let loop: EventLoop
    private var entries: [WorkloadIdentity: Entry] = [:]
    private var generation: UInt64 = 0

    init(source: any CertificateSource, make: @escaping ContextMaker, loop: EventLoop) {
        self.source = source
        self.make = make
        self.loop = loop
    }

    /// Calls `waiter` on the loop: at once when the contexts are there. Whoever waits bounds the wait.
    func get(_ identity: WorkloadIdentity, _ waiter: @escaping Waiter) {
        switch self.entries[identity] {
        case .ready(let contexts): waiter(.success(contexts))
        case .fetching(let generation, var waiters):
            waiters.append(waiter)
            self.entries[identity] = .fetching(generation: generation, waiters: waiters)
        case nil:
            self.fetch(identity, waiters: [waiter])
        }
    }

    /// A newer certificate exists: connections made from now on use it.
    func renewed(_ identity: WorkloadIdentity) {
        switch self.entries[identity] {
        case .fetching(_, let waiters): self.fetch(identity, waiters: waiters)
        case .ready: self.entries[identity] = nil
        case nil: break
        }
    }

    private func fetch(_ identity: WorkloadIdentity, waiters: [Waiter]) {
        if self.entries.count >= Self.identitiesMax {
            self.entries = self.entries.filter { if case .fetching = $0.value { true } else { false } }
        }
        self.generation += 1
        let generation = self.generation
        self.entries[identity] = .fetching(generation: generation, waiters: waiters)
        let bound = LoopBound(self, loop: self.loop)
        self.source.certificate(for: identity) { result in
            bound.execute { contexts in contexts.arrived(identity, generation, result) }
        }
    }

    private func arrived(
        _ identity: WorkloadIdentity, _ generation: UInt64,
        _ result: Result<WorkloadCertificate, CertificateUnavailable>
    ) {
        guard case .fetching(generation, let waiters) = self.entries[identity] else { return }
        self.entries[identity] = nil
        let answer: Result<any IdentityContexts, TunnelError>
        do {
            let certificate = try result.get()
            // A certificate of somebody else would prove the wrong identity: never use it.
            guard certificate.identity == identity else {
                throw CertificateUnavailable("got one for \(certificate.identity)")
            }
            let contexts = try self.make(certificate)
            self.entries[identity] = .ready(contexts)
            answer = .success(contexts)
        } catch {
            answer = .failure(.certificateUnavailable(identity, "\(error)"))
        }
        for waiter in waiters { waiter(answer) }
    }
}
