import MeshIdentity
import MeshModel
import MeshPolicy
import MeshTunnel

// The mesh as a simulated engine sees it. Everything here runs on the one thread of its simulation.

/// Routes every destination to the one tunnel peer; admits unless told otherwise.
// @unchecked: one thread.
final class SimulatedView: MeshView, @unchecked Sendable {
    private let known: WorkloadIdentity
    private let peer: IPEndpoint?
    private let expected: [WorkloadIdentity]
    private let denies: Bool
    private let usesTunnel: Bool
    /// Behind the peer, which is a gateway then: the workload that an inner tunnel is for.
    private let inner: (endpoint: IPEndpoint, identity: WorkloadIdentity)?

    init(
        _ known: WorkloadIdentity, peer: IPEndpoint? = nil, expected: [WorkloadIdentity] = [], denies: Bool = false,
        usesTunnel: Bool = true, inner: (endpoint: IPEndpoint, identity: WorkloadIdentity)? = nil
    ) {
        self.known = known
        self.peer = peer
        self.expected = expected
        self.denies = denies
        self.usesTunnel = usesTunnel
        self.inner = inner
    }

    func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        guard let peer else { return .refuse(RefusalReason(.connect, "no route"), labels: nil) }
        guard self.usesTunnel else { return .passthrough(to: question.destination, labels: Labels()) }
        var route = TunnelRoute(
            peer: peer, authority: question.destination.description, source: self.known, expected: self.expected,
            headers: [("forwarded", "for=\"\(question.source)\"")], labels: Labels())
        if let inner {
            route.authority = inner.endpoint.description
            route.inner = InnerTunnel(
                authority: question.destination.description, expected: [inner.identity], headers: route.headers,
                labels: { _, _ in Labels() })
        }
        return .tunnel(route)
    }

    func admitInbound(_ question: InboundQuestion) -> InboundAnswer {
        self.denies
            ? .refuse(status: 401, RefusalReason(.deny, "denied"), labels: Labels()) : FakeView.admitAll(question)
    }

    func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.known }
}

/// Certificates come when the simulation lets them, or never.
// @unchecked: one thread.
final class LateCertificates: CertificateSource, @unchecked Sendable {
    typealias Completion = @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void

    /// Questions without an answer.
    private(set) var waiting: [(identity: WorkloadIdentity, completion: Completion)] = []
    private var version: UInt64 = 0

    func certificate(for identity: WorkloadIdentity, completion: @escaping Completion) {
        self.waiting.append((identity, completion))
    }

    /// What is never answered would keep its engine.
    func forget() { self.waiting = [] }

    func answer(_ index: Int, failing: Bool) {
        let (identity, completion) = self.waiting.remove(at: index)
        guard !failing else { return completion(.failure(CertificateUnavailable("the CA is down"))) }
        self.version += 1
        completion(
            .success(
                WorkloadCertificate(
                    identity: identity, chain: [], privateKey: [], roots: [], version: self.version)))
    }
}

/// Each connection is opened once and closed once.
// @unchecked: one thread.
final class CountingObserver: ConnectionObserver, @unchecked Sendable {
    private(set) var open: Set<UInt64> = []
    private(set) var closedCount = 0
    private(set) var refusedCount = 0
    private(set) var errors: [String] = []
    private(set) var mistakes: [String] = []
    /// Who proved to be somebody that nobody wanted.
    var allowed: Set<WorkloadIdentity> = []

    func opened(_ connection: ConnectionRecord) {
        if !self.open.insert(connection.id).inserted { self.mistakes.append("\(connection.id) was opened twice") }
    }

    func moved(_ connection: ConnectionRecord, sent: UInt64, received: UInt64) {
        if !self.open.contains(connection.id) { self.mistakes.append("\(connection.id) moves bytes after its end") }
    }

    func closed(_ connection: ConnectionRecord, end: ConnectionEnd) {
        if self.open.remove(connection.id) == nil { self.mistakes.append("\(connection.id) was closed while not open") }
        if let peer = connection.peerIdentity, !self.allowed.contains(peer) {
            self.mistakes.append("\(connection.id) was carried by \(peer)")
        }
        if let error = end.error { self.errors.append(error) }
        self.closedCount += 1
    }

    func refusedEarly(
        direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?, _ reason: RefusalReason
    ) {
        self.errors.append(reason.text)
        self.refusedCount += 1
    }
}
