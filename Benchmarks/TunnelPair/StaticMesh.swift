internal import MeshIdentity
internal import MeshModel
internal import MeshPolicy
internal import MeshTunnel
internal import Synchronization

/// A mesh of two workloads that never changes: one route, no policies, one certificate.
final class StaticMesh: MeshView, CertificateSource {
    final class Labels: ConnectionLabels {}

    private let certificate: WorkloadCertificate
    private let peer: (endpoint: IPEndpoint, identity: WorkloadIdentity)?
    private let labels = Labels()
    /// As long as what the node proxy sends for an ordinary Deployment.
    private let baggage = (
        name: "baggage",
        value: "k8s.cluster.name=Kubernetes,k8s.namespace.name=foo,k8s.deployment.name=client,service.name=client,"
            + "service.version=v1"
    )

    /// - Parameter peer: the HBONE peer of outbound connections; nil where there are none.
    init(certificate: WorkloadCertificate, peer: (endpoint: IPEndpoint, identity: WorkloadIdentity)?) {
        self.certificate = certificate
        self.peer = peer
    }

    func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        guard let peer else { return .refuse(RefusalReason(.connect, "this is the inbound side"), labels: nil) }
        return .tunnel(
            TunnelRoute(
                peer: peer.endpoint, authority: question.destination.description, source: self.certificate.identity,
                expected: [peer.identity],
                headers: [self.baggage, (name: "forwarded", value: "for=\(question.source.address)")],
                labels: self.labels))
    }

    /// Decides as the node proxy does, with an empty set of policies.
    func admitInbound(_ question: InboundQuestion) -> InboundAnswer {
        guard case .hbone(let authority, _) = question.via, let target = IPEndpoint(authority) else {
            return .refuse(status: 400, RefusalReason(.none, "only tunnels to an IP:PORT"), labels: nil)
        }
        let facts = ConnectionFacts(
            identity: question.identity, source: question.source.address, destination: target)
        switch PolicySet.empty.decide(facts, namespace: question.pod.namespace, named: []) {
        case .permit(let permit):
            return .admit(permit, target: target, responseHeaders: [self.baggage], labels: self.labels)
        case .deny(let denial):
            return .refuse(status: 401, RefusalReason(.deny, "\(denial)"), labels: self.labels)
        }
    }

    func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.certificate.identity }

    func certificate(
        for identity: WorkloadIdentity,
        completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
    ) {
        completion(
            identity == self.certificate.identity
                ? .success(self.certificate)
                : .failure(CertificateUnavailable("only \(self.certificate.identity) is known here")))
    }
}

/// Counts, and writes the first failures to standard error: a benchmark of refusals would mean nothing.
final class CountingObserver: ConnectionObserver {
    private static let reportsMax = 20
    private let opened = Atomic<UInt64>(0)
    private let closed = Atomic<UInt64>(0)
    private let bytes = Atomic<UInt64>(0)
    private let reports = Atomic<Int>(0)

    func opened(_ connection: ConnectionRecord) { self.opened.add(1, ordering: .relaxed) }

    func moved(_ connection: ConnectionRecord, sent: UInt64, received: UInt64) {
        self.bytes.add(sent &+ received, ordering: .relaxed)
    }

    func closed(_ connection: ConnectionRecord, end: ConnectionEnd) {
        self.closed.add(1, ordering: .relaxed)
        if let error = end.error { self.report("\(connection.direction) \(connection.destination): \(error)") }
    }

    func refusedEarly(
        direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?, _ reason: RefusalReason
    ) { self.report("\(direction) refused: \(reason.text)") }

    private func report(_ text: String) {
        guard self.reports.add(1, ordering: .relaxed).newValue <= Self.reportsMax else { return }
        complain(text)
    }
}
