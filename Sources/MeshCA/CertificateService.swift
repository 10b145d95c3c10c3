package import GRPCCore
package import Logging
package import MeshChannel
import MeshIdentity
package import MeshProto

/// The gRPC face of the CA. Callers learn that they were refused and what is wanted, never what is wrong with theirs; the
/// log has the reason.
package struct CertificateService: Istio_V1_Auth_IstioCertificateService.ServiceProtocol {
    /// What happened to one request; for metrics.
    package enum Event: Sendable { case received, issued, unauthenticated, refused, failed }

    private let authenticator: any CallerAuthenticator
    private let authority: @Sendable () -> CertificateAuthority
    private let rule: @Sendable () -> ImpersonationRule
    private let pods: any PodDirectory
    private let logger: Logger
    private let record: @Sendable (Event) -> Void

    package init(
        authenticator: any CallerAuthenticator, authority: @escaping @Sendable () -> CertificateAuthority,
        rule: @escaping @Sendable () -> ImpersonationRule, pods: any PodDirectory, logger: Logger,
        record: @escaping @Sendable (Event) -> Void = { _ in }
    ) {
        self.authenticator = authenticator
        self.authority = authority
        self.rule = rule
        self.pods = pods
        self.logger = logger
        self.record = record
    }

    package func createCertificate(
        request: ServerRequest<Istio_V1_Auth_IstioCertificateRequest>, context: ServerContext
    ) async throws -> ServerResponse<Istio_V1_Auth_IstioCertificateResponse> {
        self.record(.received)
        let chain = try await self.answer(request.message, request.metadata, peer: context.readablePeer)
        return ServerResponse(message: .with { $0.certChain = chain })
    }

    private func answer(
        _ message: Istio_V1_Auth_IstioCertificateRequest, _ metadata: Metadata, peer: String
    ) async throws -> [String] {
        let caller: AuthenticatedCaller
        do {
            caller = try await self.authenticator.authenticate(metadata)
        } catch {
            self.record(.unauthenticated)
            self.logger.warning("CA: caller not authenticated", metadata: ["peer": "\(peer)", "why": "\(error)"])
            throw RPCError(
                code: .unauthenticated, message: "request authenticate failure; wanted \(self.authenticator.wanted)")
        }
        let fields = message.metadata.fields
        if let signer = fields["CertSigner"]?.stringValue, !signer.isEmpty {
            self.record(.refused)
            self.logger.warning(
                "CA: external signers are not supported",
                metadata: ["caller": "\(caller.account)", "signer": "\(signer)"])
            throw RPCError(code: .failedPrecondition, message: "certificate signer is not supported")
        }
        let identity: WorkloadIdentity
        do {
            identity = try self.rule().identity(
                for: caller, requested: fields["ImpersonatedIdentity"]?.stringValue ?? "", pods: self.pods)
        } catch {
            self.record(.refused)
            self.logger.warning(
                "CA: impersonation refused",
                metadata: ["peer": "\(peer)", "caller": "\(caller.account)", "why": "\(error)"])
            throw RPCError(code: .unauthenticated, message: "request impersonation authentication failure")
        }
        do {
            let ttl = message.validityDuration > 0 ? Duration.seconds(message.validityDuration) : nil
            let chain = try self.authority().sign(csrPEM: message.csr, identity: identity, ttl: ttl)
            self.record(.issued)
            self.logger.debug(
                "CA: certificate issued", metadata: ["caller": "\(caller.account)", "identity": "\(identity)"])
            return chain
        } catch {
            self.record(.failed)
            self.logger.error(
                "CA: signing failed",
                metadata: ["caller": "\(caller.account)", "identity": "\(identity)", "why": "\(error)"])
            if case .badRequest = error {
                throw RPCError(code: .invalidArgument, message: "certificate signing request is not acceptable")
            }
            throw RPCError(code: .internalError, message: "certificate signing failure")
        }
    }
}
