import MeshIdentity
import MeshModel
import MeshPolicy
import MeshTestSupport
import MeshTunnel
import Synchronization

/// A mesh whose answers are closures.
final class FakeView: MeshView {
    private let route: @Sendable (OutboundQuestion) -> OutboundAnswer
    private let admit: @Sendable (InboundQuestion) -> InboundAnswer
    private let known: WorkloadIdentity?

    init(
        identity: WorkloadIdentity?,
        route: @escaping @Sendable (OutboundQuestion) -> OutboundAnswer = { _ in
            .refuse(RefusalReason(.connect, "no route"), labels: nil)
        },
        admit: @escaping @Sendable (InboundQuestion) -> InboundAnswer = FakeView.admitAll
    ) {
        self.route = route
        self.admit = admit
        self.known = identity
    }

    func routeOutbound(_ question: OutboundQuestion) -> OutboundAnswer { self.route(question) }
    func admitInbound(_ question: InboundQuestion) -> InboundAnswer { self.admit(question) }
    func identity(of pod: EnrolledPod) -> WorkloadIdentity? { self.known }

    /// Dials the authority, or the original destination.
    static let admitAll: @Sendable (InboundQuestion) -> InboundAnswer = { question in
        switch question.via {
        case .plaintext(let destination): admission(question, to: destination)
        case .hbone(let authority, _):
            IPEndpoint(authority).map { admission(question, to: $0) }
                ?? .refuse(status: 400, RefusalReason(.none, "no endpoint: \(authority)"), labels: nil)
        }
    }

    static func admission(
        _ question: InboundQuestion, to target: IPEndpoint, preamble: [UInt8] = []
    ) -> InboundAnswer {
        let facts = ConnectionFacts(
            identity: question.identity, source: question.source.address, destination: target)
        guard case .permit(let permit) = PolicySet.empty.decide(facts, namespace: "default", named: []) else {
            return .refuse(status: 401, RefusalReason(.deny, "denied"), labels: nil)
        }
        return .admit(
            permit, target: target, responseHeaders: [("baggage", "k8s.cluster.name=test")], labels: Labels(),
            preamble: preamble)
    }
}

final class Labels: ConnectionLabels {}

/// Issues from one authority at once; counts.
final class FakeCertificates: CertificateSource {
    private let ca: TestCA
    private let version = Atomic<UInt64>(0)

    init(_ ca: TestCA) { self.ca = ca }

    var issued: UInt64 { self.version.load(ordering: .relaxed) }

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

/// Answers from a table; a host that is not in it has to wait for ``answer(_:_:)``.
final class FakeResolver: HostResolver {
    private struct State {
        var table: [String: Result<ResolvedHost, HostUnresolved>]
        var waiting: [String: [@Sendable (Result<ResolvedHost, HostUnresolved>) -> Void]] = [:]
        var asked: [String] = []
    }
    private let state: Mutex<State>

    init(_ table: [String: Result<ResolvedHost, HostUnresolved>] = [:]) { self.state = Mutex(State(table: table)) }

    var asked: [String] { self.state.withLock { $0.asked } }

    func resolve(_ host: String, completion: @escaping @Sendable (Result<ResolvedHost, HostUnresolved>) -> Void) {
        let known = self.state.withLock { state in
            state.asked.append(host)
            if state.table[host] == nil { state.waiting[host, default: []].append(completion) }
            return state.table[host]
        }
        if let known { completion(known) }
    }

    func answer(_ host: String, _ result: Result<ResolvedHost, HostUnresolved>) {
        let waiting = self.state.withLock { $0.waiting.removeValue(forKey: host) ?? [] }
        for completion in waiting { completion(result) }
    }
}

/// Always the same.
final class OneCertificate: CertificateSource {
    private let issued: TestCA.Issued
    init(_ issued: TestCA.Issued) { self.issued = issued }

    func certificate(
        for identity: WorkloadIdentity,
        completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
    ) {
        completion(
            .success(
                WorkloadCertificate(
                    identity: identity, chain: self.issued.chain, privateKey: self.issued.privateKey,
                    roots: self.issued.roots, version: 1)))
    }
}

/// Never has a certificate.
final class NoCertificates: CertificateSource {
    func certificate(
        for identity: WorkloadIdentity,
        completion: @escaping @Sendable (Result<WorkloadCertificate, CertificateUnavailable>) -> Void
    ) { completion(.failure(CertificateUnavailable("the CA is down"))) }
}

/// Remembers what it was told, and lets a test wait for it.
final class RecordingObserver: ConnectionObserver {
    struct Ended: Sendable {
        var record: ConnectionRecord
        var end: ConnectionEnd
    }

    struct Log: Sendable {
        var opened: [ConnectionRecord] = []
        var closed: [Ended] = []
        var refused: [RefusalReason] = []
        var ejected: [IPAddress] = []
        var revoked: [ConnectionRecord.Direction] = []
        /// Connections that are open now.
        var open: Set<UInt64> = []
        /// Told twice, or closed without having been opened.
        var mistakes: [String] = []
    }

    private struct Waiter {
        let number: Int
        var condition: @Sendable (Log) -> Bool
        var continuation: CheckedContinuation<Log, Never>
    }

    private struct State {
        var log = Log()
        var waiters: [Waiter] = []
        var lastNumber = 0
    }

    private let state = Mutex(State())

    var log: Log { self.state.withLock { $0.log } }

    /// Returns as soon as the log satisfies `condition`; the test's own time limit bounds it, and then it returns the
    /// log as it is.
    func wait(_ condition: @escaping @Sendable (Log) -> Bool) async -> Log {
        let number = self.state.withLock { state in
            state.lastNumber += 1
            return state.lastNumber
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let log: Log? = self.state.withLock { state in
                    if condition(state.log) || Task.isCancelled { return state.log }
                    state.waiters.append(Waiter(number: number, condition: condition, continuation: continuation))
                    return nil
                }
                if let log { continuation.resume(returning: log) }
            }
        } onCancel: {
            let (log, waiter) = self.state.withLock { state in
                let index = state.waiters.firstIndex { $0.number == number }
                return (state.log, index.map { state.waiters.remove(at: $0) })
            }
            waiter?.continuation.resume(returning: log)
        }
    }

    struct NotSeen: Error, CustomStringConvertible { let description: String }

    /// - Throws: when the test's time is over before.
    func firstClosed() async throws -> Ended {
        guard let first = await self.wait({ !$0.closed.isEmpty }).closed.first else {
            throw NotSeen(description: "no connection was closed")
        }
        return first
    }
    /// - Throws: when the test's time is over before.
    func firstRefused() async throws -> RefusalReason {
        guard let first = await self.wait({ !$0.refused.isEmpty }).refused.first else {
            throw NotSeen(description: "nothing was refused")
        }
        return first
    }

    private func change(_ body: (inout Log) -> Void) {
        let (log, done) = self.state.withLock { state in
            body(&state.log)
            let log = state.log
            let done = state.waiters.filter { $0.condition(log) }
            state.waiters.removeAll { $0.condition(log) }
            return (log, done)
        }
        for waiter in done { waiter.continuation.resume(returning: log) }
    }

    func opened(_ connection: ConnectionRecord) {
        self.change {
            if !$0.open.insert(connection.id).inserted { $0.mistakes.append("opened twice: \(connection.id)") }
            $0.opened.append(connection)
        }
    }

    func moved(_ connection: ConnectionRecord, sent: UInt64, received: UInt64) {}

    func closed(_ connection: ConnectionRecord, end: ConnectionEnd) {
        self.change {
            if $0.open.remove(connection.id) == nil { $0.mistakes.append("closed while not open: \(connection.id)") }
            $0.closed.append(Ended(record: connection, end: end))
        }
    }

    func ejected(_ endpoint: IPAddress, for time: Duration, because reason: String) {
        self.change { $0.ejected.append(endpoint) }
    }

    func rejectedByRevocation(_ direction: ConnectionRecord.Direction) { self.change { $0.revoked.append(direction) } }

    func refusedEarly(
        direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?,
        _ reason: RefusalReason
    ) { self.change { $0.refused.append(reason) } }
}
