import MeshExchange
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshRoutes
import MeshTestSupport
import MeshTunnel
import Synchronization

/// A port, and a view that serves nothing else, whose answers are closures.
final class FakePort: ExchangeView, ServedPort {
    typealias Plan = @Sendable (RequestHead, RequestOrigin) -> ExchangePlan

    let appProtocol: ServicePort.AppProtocol
    let needsHTTP: Bool
    /// Not the closure itself: read out of a mutex it would be wrapped once more each time, until the stack ends.
    private struct Current { var plan: Plan }
    private let plan: Mutex<Current>
    private let streamPlan: @Sendable (String?, RequestOrigin) -> StreamPlan
    private let isServed = Atomic(true)

    init(
        _ appProtocol: ServicePort.AppProtocol, needsHTTP: Bool, plan: @escaping Plan,
        stream: @escaping @Sendable (String?, RequestOrigin) -> StreamPlan
    ) {
        self.appProtocol = appProtocol
        self.needsHTTP = needsHTTP
        self.plan = Mutex(Current(plan: plan))
        self.streamPlan = stream
    }

    /// Requests from now on.
    func change(_ plan: @escaping Plan) { self.plan.withLock { $0.plan = plan } }
    func stopServing() { self.isServed.store(false, ordering: .relaxed) }

    func served(_ target: ServedTarget) -> (any ServedPort)? { self.isServed.load(ordering: .relaxed) ? self : nil }

    func plan(_ request: RequestHead, _ origin: RequestOrigin) -> ExchangePlan {
        self.plan.withLock { $0 }.plan(request, origin)
    }

    func plan(stream serverName: String?, _ origin: RequestOrigin) -> StreamPlan { self.streamPlan(serverName, origin) }
}

/// A mesh as each engine of the rig sees it.
final class FakeMesh: MeshView {
    private let own: WorkloadIdentity
    private let route: TunnelRoute?
    private let target: ServedTarget?
    private let asked: Log<Rig.Asked>?

    /// - Parameters:
    ///   - route: of every outbound connection.
    ///   - serves: every CONNECT is served as this; nil: its authority is dialled.
    ///   - asked: gets every request for a stream.
    init(
        identity: WorkloadIdentity, route: TunnelRoute? = nil, serves target: ServedTarget? = nil,
        asked: Log<Rig.Asked>? = nil
    ) {
        self.asked = asked
        self.own = identity
        self.route = route
        self.target = target
    }

    func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.own }

    func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer {
        self.route.map { .tunnel($0) } ?? .refuse(RefusalReason(.connect, "no route"), labels: nil)
    }

    func admitInbound(_ question: InboundQuestion) -> InboundAnswer {
        guard case .hbone(let authority, let headers) = question.via, let asked = IPEndpoint(authority) else {
            return .refuse(status: 400, RefusalReason(.none, "only tunnels to an address"), labels: nil)
        }
        self.asked?.add(
            Rig.Asked(headers: headers.map { "\($0.name): \($0.value)" }, identity: question.identity))
        let facts = ConnectionFacts(
            identity: question.identity, source: question.source.address, destination: asked)
        guard case .permit(let permit) = PolicySet.empty.decide(facts, namespace: "shop", named: []) else {
            return .refuse(status: 401, RefusalReason(.deny, "denied"), labels: nil)
        }
        if let target { return .serve(permit, target, labels: FakeLabels()) }
        return .admit(permit, target: asked, responseHeaders: [], labels: FakeLabels())
    }
}

final class FakeLabels: ConnectionLabels {}

/// Answers what a test says.
final class FakeResolver: HostResolver {
    typealias Completion = @Sendable (Result<ResolvedHost, HostUnresolved>) -> Void
    /// Questions, as they came.
    let asked = Log<(host: String, completion: Completion)>()
    private let answer: @Sendable (String) -> Result<ResolvedHost, HostUnresolved>?

    /// - Parameter answer: nil: the test answers itself, or nobody does.
    init(_ answer: @escaping @Sendable (String) -> Result<ResolvedHost, HostUnresolved>?) { self.answer = answer }

    func resolve(_ host: String, completion: @escaping Completion) {
        self.asked.add((host, completion))
        if let answer = self.answer(host) { completion(answer) }
    }
}

final class SilentConnections: ConnectionObserver {
    func opened(_ connection: ConnectionRecord) {}
    func moved(_ connection: ConnectionRecord, sent: UInt64, received: UInt64) {}
    func closed(_ connection: ConnectionRecord, end: ConnectionEnd) {}
    func refusedEarly(
        direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?, _ reason: RefusalReason
    ) {}
}

/// Issues from one authority at once.
final class FakeCertificates: CertificateSource {
    private let ca: TestCA
    private let version = Atomic<UInt64>(0)

    init(_ ca: TestCA) { self.ca = ca }

    func certificate(
        for identity: WorkloadIdentity,
        completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
    ) {
        let version = self.version.add(1, ordering: .relaxed).newValue
        completion(
            Result {
                let issued = try self.ca.issue(identity)
                return WorkloadCertificate(
                    identity: identity, chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots,
                    version: version)
            }.mapError { CertificateUnavailable("\($0)") })
    }
}
