package import Crypto
import Foundation
import GRPCCore
public import Logging
public import MeshChannel
public import MeshIdentity
import MeshProto
import SwiftProtobuf
import X509

public struct CertificateClientConfiguration: Sendable {
    public var endpoint: ControlPlaneEndpoint
    /// Asked for; the CA may give less.
    public var validity: Duration
    /// True for a node proxy, which asks for identities of the pods on its node with its own token. False asks
    /// for the token's own identity.
    public var impersonates: Bool
    /// For one call, connecting included.
    public var timeout: Duration

    public init(
        endpoint: ControlPlaneEndpoint, validity: Duration = .seconds(86400), impersonates: Bool = true,
        timeout: Duration = .seconds(15)
    ) {
        self.endpoint = endpoint
        self.validity = validity
        self.impersonates = impersonates
        self.timeout = timeout
    }
}

/// Asks the CA for certificates. Every call makes a new key and a new connection: a node needs one certificate per
/// identity in half a day, and a fresh connection always uses the current root file and token.
public struct CertificateClient: Sendable {
    private let configuration: CertificateClientConfiguration
    private let logger: Logger

    public init(_ configuration: CertificateClientConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// - Throws: ``CertificateError``, or `CancellationError`.
    public func sign(_ identity: WorkloadIdentity) async throws -> SignedCertificate {
        let key = P256.Signing.PrivateKey()
        let request = try Self.request(identity, key, self.configuration)
        let answer = try await self.ask(request, identity)
        let signed = try CertificateAnswer.verify(
            answer.certChain, for: identity, key: key, now: Date())
        self.logger.debug(
            "certificate signed", metadata: ["identity": "\(identity)", "notAfter": "\(signed.notAfter)"])
        return signed
    }

    static func request(
        _ identity: WorkloadIdentity, _ key: P256.Signing.PrivateKey, _ configuration: CertificateClientConfiguration
    ) throws -> Istio_V1_Auth_IstioCertificateRequest {
        let csr: String
        do {
            csr = try Self.signingRequest(identity, key)
        } catch {
            throw CertificateError.local(reason: "no signing request for \(identity): \(error)")
        }
        return .with {
            $0.csr = csr
            $0.validityDuration = configuration.validity.components.seconds
            if configuration.impersonates {
                $0.metadata.fields["ImpersonatedIdentity"] = Google_Protobuf_Value(stringValue: identity.description)
            }
        }
    }

    /// PKCS#10 as PEM: empty subject, one critical subject alternative name.
    package static func signingRequest(_ identity: WorkloadIdentity, _ key: P256.Signing.PrivateKey) throws -> String {
        let names = SubjectAlternativeNames([.uniformResourceIdentifier(identity.description)])
        let extensions = try Certificate.Extensions { Critical(names) }
        let request = try CertificateSigningRequest(
            version: .v1, subject: DistinguishedName(), privateKey: Certificate.PrivateKey(key),
            attributes: CertificateSigningRequest.Attributes([
                try CertificateSigningRequest.Attribute(ExtensionRequest(extensions: extensions))
            ]),
            signatureAlgorithm: .ecdsaWithSHA256)
        return try request.serializeAsPEM().pemString
    }

    private func warnOfRoots(_ trouble: String) {
        self.logger.warning(
            "the control plane's root file cannot be used; the roots it had before are", metadata: ["why": "\(trouble)"]
        )
    }

    private func ask(
        _ request: Istio_V1_Auth_IstioCertificateRequest, _ identity: WorkloadIdentity
    ) async throws -> Istio_V1_Auth_IstioCertificateResponse {
        let endpoint = self.configuration.endpoint
        let metadata: Metadata
        do {
            metadata = try endpoint.metadata()
        } catch {
            throw CertificateError.local(reason: error.description)
        }
        var options = CallOptions.defaults
        options.timeout = self.configuration.timeout
        options.waitForReady = false
        let callOptions = options
        var last: any Error = CancellationError()
        for name in endpoint.serverNames {
            do {
                return try await endpoint.withChannel(serverName: name, keptRoots: self.warnOfRoots) { channel in
                    try await Istio_V1_Auth_IstioCertificateService.Client(wrapping: channel)
                        .createCertificate(request, metadata: metadata, options: callOptions)
                }
            } catch let error as RPCError where error.code == .unavailable {
                last = error  // perhaps the certificate carries the other name
            } catch {
                last = error
                break
            }
        }
        switch last {
        case is CancellationError: throw last
        case let error as RPCError where error.code == .unavailable || error.code == .deadlineExceeded:
            let cause = error.cause.map { ": \($0)" } ?? ""
            throw CertificateError.unreachable(
                server: "\(endpoint.host):\(endpoint.port)", reason: "\(error.message)\(cause)")
        case let error as RPCError:
            throw CertificateError.refused(
                identity: identity.description, code: "\(error.code)", message: error.message)
        default: throw CertificateError.local(reason: "\(last)")
        }
    }
}
