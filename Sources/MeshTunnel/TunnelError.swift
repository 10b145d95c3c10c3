internal import MeshIdentity
internal import MeshModel

/// Why a connection through the tunnel failed or was ended, in words for the access log.
enum TunnelError: Error, Hashable, CustomStringConvertible {
    case selfCall(IPEndpoint)
    case dialFailed(IPEndpoint, String)
    case dialTimedOut(IPEndpoint, Duration)
    case certificateUnavailable(WorkloadIdentity, String)
    case tlsFailed(IPEndpoint, String)
    case handshakeTimedOut(IPEndpoint, Duration)
    case wrongIdentity(IPEndpoint, presented: [String], expected: [WorkloadIdentity])
    case wrongTrustDomain(IPEndpoint, presented: [String], trustDomain: String)
    /// While the peer proved itself.
    case revoked(IPEndpoint, serial: String)
    case revocationUnknown(IPEndpoint, String)
    /// While it was connected.
    case peerRevoked
    case protocolBroken(IPEndpoint, String)
    case peerClosed(IPEndpoint)
    case peerSilent(IPEndpoint, Duration)
    case answerTimedOut(IPEndpoint, Duration)
    case refused(IPEndpoint, status: Int)
    case streamRefused(IPEndpoint, code: String)
    case tooManyTunnels(IPEndpoint)
    case tooManyInboundTunnels(IPEndpoint, limit: Int)
    case crowdedOut(IPEndpoint, limit: Int)
    case clientReset(String)
    case peerReset(code: String)
    case policyChanged
    case podRemoved
    case drained

    var description: String {
        switch self {
        case .selfCall(let destination):
            "attempted recursive call to ourselves: \(destination) is a port of the mesh itself"
        case .dialFailed(let peer, let reason): "\(reason) (\(peer)); is the destination listening?"
        case .dialTimedOut(let peer, let limit):
            "no answer from \(peer) within \(limit); does a NetworkPolicy block the port \(peer.port)?"
        case .certificateUnavailable(let identity, let reason): "no certificate for \(identity): \(reason)"
        case .tlsFailed(let peer, let reason): "TLS with \(peer) failed: \(reason)"
        case .handshakeTimedOut(let peer, let limit):
            "\(peer) accepted the connection but did not finish the TLS and HTTP/2 handshake within \(limit)"
        case .wrongIdentity(let peer, let presented, let expected):
            "identity error: \(peer) proved to be \(presented.isEmpty ? "nobody" : presented.joined(separator: ", ")), "
                + "wanted one of \(expected.map(\.description).joined(separator: ", "))"
        case .wrongTrustDomain(let peer, let presented, let trustDomain):
            "identity error: \(peer) proved to be \(presented.isEmpty ? "nobody" : presented.joined(separator: ", ")), "
                + "which is not of trust domain \(trustDomain)"
        case .revoked(let peer, let serial):
            "\(peer) was refused: its certificate with serial number \(serial) is revoked by the CRL; it needs a new one"
        case .revocationUnknown(let peer, let reason):
            "\(peer) was refused: nobody can tell whether its certificate is revoked, because the CRL at CRL_PATH cannot "
                + "be used: \(reason)"
        case .peerRevoked: "connection closed: peer certificate revoked by CRL"
        case .protocolBroken(let peer, let reason): "HTTP/2 with \(peer) failed: \(reason)"
        case .peerClosed(let peer): "\(peer) closed the tunnel"
        case .peerSilent(let peer, let limit): "\(peer) did not answer a PING within \(limit); the tunnel is given up"
        case .answerTimedOut(let peer, let limit): "\(peer) did not answer CONNECT within \(limit)"
        case .refused(let peer, let status): "\(peer) refused: http status: \(status)"
        case .streamRefused(let peer, let code): "\(peer) reset the stream before answering: \(code)"
        case .tooManyTunnels(let peer): "too many tunnels to \(peer) are open"
        case .tooManyInboundTunnels(let peer, let limit):
            "\(peer) was refused: its destination already has \(limit) inbound tunnels; who opens so many?"
        case .crowdedOut(let peer, let limit):
            "\(peer) was closed before its handshake ended, as the oldest of more than \(limit) that had not; "
                + "is somebody connecting to port 15008 without speaking?"
        case .clientReset(let reason): "the application's connection broke: \(reason)"
        case .peerReset(let code): "the other side reset the stream: \(code)"
        case .policyChanged: "connection closed due to policy change"
        case .podRemoved: "connection closed because the pod left the mesh"
        case .drained: "connection closed due to connection drain"
        }
    }

    /// The short code of the access log. No `default`: a new error has to choose its code.
    var flag: ResponseFlag {
        switch self {
        case .dialFailed, .dialTimedOut, .answerTimedOut, .refused, .streamRefused, .tooManyTunnels: .connect
        case .certificateUnavailable, .tlsFailed: .tlsFailure
        case .wrongIdentity, .wrongTrustDomain: .identityError
        case .revoked, .revocationUnknown, .peerRevoked: .certificateRevoked
        case .tooManyInboundTunnels: .connect
        case .handshakeTimedOut, .protocolBroken, .crowdedOut: .h2HandshakeFailure
        case .policyChanged: .deny
        case .selfCall: .connect
        case .peerClosed, .peerSilent, .clientReset, .peerReset, .podRemoved, .drained: .none
        }
    }

    /// Whether another endpoint may do better. A peer that proved to be somebody else is not routed around: that
    /// hides an attack or a broken directory.
    var allowsAnotherEndpoint: Bool {
        switch self {
        case .dialFailed, .dialTimedOut, .handshakeTimedOut, .peerClosed, .peerSilent, .tooManyTunnels, .streamRefused:
            true
        case .tooManyInboundTunnels, .crowdedOut: false
        // The peer could not reach the application; 4xx is a decision that another endpoint must not get around.
        case .refused(_, let status): status >= 500
        case .selfCall, .certificateUnavailable, .tlsFailed, .wrongIdentity, .wrongTrustDomain, .revoked,
            .revocationUnknown, .peerRevoked, .protocolBroken, .answerTimedOut, .clientReset, .peerReset,
            .policyChanged, .podRemoved,
            .drained:
            false
        }
    }

    /// Whether the endpoint is at fault, so that others are chosen before it for a while. Not one that proved to be
    /// somebody else, for the reason above.
    var blamesEndpoint: Bool {
        switch self {
        case .dialFailed, .dialTimedOut, .handshakeTimedOut, .peerClosed, .peerSilent, .answerTimedOut, .protocolBroken:
            true
        case .refused(_, let status): status >= 500
        case .selfCall, .certificateUnavailable, .tlsFailed, .wrongIdentity, .wrongTrustDomain, .revoked,
            .revocationUnknown, .peerRevoked, .streamRefused, .tooManyTunnels, .tooManyInboundTunnels, .crowdedOut,
            .clientReset, .peerReset, .policyChanged, .podRemoved,
            .drained:
            false
        }
    }

    /// What a peer that is refused when it has proven itself is told (RFC 8446, 6.2).
    var alert: UInt8 {
        if case .revoked = self { TunnelConnection.certificateRevoked } else { TunnelConnection.accessDenied }
    }

    var refusal: RefusalReason { RefusalReason(self.flag, self.description, kind: self.kind) }

    private var kind: RefusalReason.Kind {
        switch self {
        case .selfCall: .selfCall
        case .certificateUnavailable, .tlsFailed, .handshakeTimedOut, .wrongIdentity, .wrongTrustDomain,
            .revoked, .revocationUnknown, .peerRevoked, .protocolBroken:
            .handshake
        case .policyChanged: .policy
        case .podRemoved, .drained: .ending
        case .tooManyTunnels, .tooManyInboundTunnels, .crowdedOut: .shortage
        case .dialFailed, .dialTimedOut, .peerClosed, .peerSilent, .answerTimedOut, .refused, .streamRefused,
            .clientReset, .peerReset:
            .other
        }
    }
}
