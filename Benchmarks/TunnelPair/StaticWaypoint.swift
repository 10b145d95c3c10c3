internal import MeshExchange
internal import MeshHTTP
internal import MeshIdentity
internal import MeshModel
internal import MeshPolicy
internal import MeshRoutes
internal import MeshTunnel

/// A waypoint of one service with one endpoint: a route that matches by a header, one that matches everything, both with
/// retries.
final class StaticWaypoint: MeshView, ExchangeView, ServedPort, CertificateSource {
    final class Labels: ConnectionLabels {}

    private let certificate: WorkloadCertificate
    private let target: ServedTarget
    private let backend: Backend
    private let labels = Labels()
    private let retry = RetryPolicy(codes: [503], attempts: 2)

    init(
        certificate: WorkloadCertificate, service: IPEndpoint, peer: IPEndpoint, peerIdentity: WorkloadIdentity
    ) {
        self.certificate = certificate
        let key = NamespacedName(namespace: "bar", name: "server.bar.svc.cluster.local")
        self.target = ServedTarget(.service(key, port: service.port), local: service)
        let baggage = (
            name: "baggage", value: "k8s.cluster.name=Kubernetes,k8s.namespace.name=foo,service.name=waypoint"
        )
        self.backend = Backend(
            service: key, port: service.port, appProtocol: .http11,
            endpoints: [
                UpstreamEndpoint(
                    workload: "server", address: service,
                    route: TunnelRoute(
                        peer: peer, authority: service.description, source: certificate.identity,
                        expected: [peerIdentity], headers: [baggage], labels: self.labels))
            ])
    }

    func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        .refuse(RefusalReason(.connect, "this is a waypoint"), labels: nil)
    }

    func admitInbound(_ question: InboundQuestion) -> InboundAnswer {
        guard case .hbone(let authority, _) = question.via, let target = IPEndpoint(authority) else {
            return .refuse(status: 400, RefusalReason(.none, "only tunnels to an IP:PORT"), labels: nil)
        }
        let facts = ConnectionFacts(
            identity: question.identity, source: question.source.address, destination: target)
        switch PolicySet.empty.decide(facts, namespace: question.pod.namespace, named: []) {
        case .permit(let permit): return .serve(permit, self.target, labels: self.labels)
        case .deny(let denial):
            return .refuse(status: 401, RefusalReason(.deny, "\(denial)"), labels: self.labels)
        }
    }

    func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.certificate.identity }

    func certificate(
        for identity: WorkloadIdentity,
        completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
    ) {
        completion(.success(self.certificate))
    }

    // MARK: Layer 7

    func served(_ target: ServedTarget) -> (any ServedPort)? { self }
    var appProtocol: ServicePort.AppProtocol { .http11 }
    var needsHTTP: Bool { true }

    func plan(_ request: RequestHead, _ origin: RequestOrigin) -> ExchangePlan {
        var plan = ForwardPlan(request: request, backend: self.backend)
        plan.route = request.fields["x-variant"] == "canary" ? "canary" : "main"
        plan.retry = self.retry
        plan.timeouts.request = .seconds(15)
        return .forward(plan)
    }

    func plan(stream serverName: String?, _ origin: RequestOrigin) -> StreamPlan { .forward(self.backend, route: nil) }
}

final class SilentExchanges: ExchangeObserver {
    func finished(_ report: borrowing ExchangeReport) {}
    func opened(_ stream: borrowing StreamReport) {}
    func moved(_ stream: borrowing StreamReport, sent: UInt64, received: UInt64) {}
    func closed(_ stream: borrowing StreamReport, _ end: borrowing StreamReport.End) {}
}
