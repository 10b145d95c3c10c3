package import MeshIdentity
package import MeshModel
package import MeshRoutes
internal import MeshTunnel

/// What a CONNECT asked for, as long as its stream lives.
package final class ServedTarget: StreamTarget {
    package enum What: Hashable, Sendable {
        case service(NamespacedName, port: UInt16)
        /// A workload's own address.
        case workload(uid: String, port: UInt16)
    }
    package let what: What
    /// The address that was asked for; nil: a host name was.
    package let local: IPEndpoint?

    package init(_ what: What, local: IPEndpoint?) {
        self.what = what
        self.local = local
    }
}

/// One immutable picture of routes, policies and endpoints. Asked on event-loop threads, answers at once.
package protocol ExchangeView: AnyObject, Sendable {
    /// Nil: we do not serve it any more.
    func served(_ target: ServedTarget) -> (any ServedPort)?
}

/// One port of a service, or of a workload, that the waypoint serves.
package protocol ServedPort: AnyObject, Sendable {
    /// What the port's owner said it speaks.
    var appProtocol: ServicePort.AppProtocol { get }
    /// There are routes or policies that need HTTP: a client that says nothing is never taken for one of another protocol.
    var needsHTTP: Bool { get }
    /// Judges a request and says where it goes.
    func plan(_ request: RequestHead, _ origin: RequestOrigin) -> ExchangePlan
    /// The same for a stream that is not looked into. `serverName`: of a TLS client hello.
    func plan(stream serverName: String?, _ origin: RequestOrigin) -> StreamPlan
}

/// Who asks.
package struct RequestOrigin {
    package var client: IPEndpoint
    package var identity: WorkloadIdentity?
    package var local: IPEndpoint?
    package var isGRPC: Bool
    /// Nanoseconds of a monotonic clock.
    package var now: UInt64
    /// Seconds since 1970.
    package var time: Int64
    /// For weights, fractions and sampling.
    package var random: UInt64
    /// Of the event loop.
    package var memory: LoopMemory

    package init(
        client: IPEndpoint, identity: WorkloadIdentity?, local: IPEndpoint?, isGRPC: Bool, now: UInt64, time: Int64,
        random: UInt64, memory: LoopMemory
    ) {
        self.client = client
        self.identity = identity
        self.local = local
        self.isGRPC = isGRPC
        self.now = now
        self.time = time
        self.random = random
        self.memory = memory
    }
}

/// What one event loop remembers between requests.
package final class LoopMemory {
    package var tokens = TokenMemory()
    package init() {}
}

package enum ExchangePlan {
    case answer(LocalAnswer)
    case forward(ForwardPlan)
}

/// A response of our own.
package struct LocalAnswer: Sendable {
    package var response: ResponseHead
    package var body: String
    package var flags: ExchangeFlags
    /// As in ``ExchangeReport/details``.
    package var details: String?
    package var route: String?

    package init(
        _ status: Int, _ body: String = "", flags: ExchangeFlags = [], details: String? = nil, route: String? = nil
    ) {
        self.response = ResponseHead(status: status)
        self.body = body
        self.flags = flags
        self.details = details
        self.route = route
    }
}

package struct ForwardPlan: Sendable {
    /// As it goes out, but for what the connection adds.
    package var request: RequestHead
    package var backend: Backend
    package var route: String?
    package var timeouts = RouteTimeouts()
    package var retry: RetryPolicy?
    /// Of the request, for the backend's choice.
    package var hash: UInt64?
    /// The endpoint that a session belongs to (``SessionTag``).
    package var pinned: UInt64?
    /// Changes the response's head, once it is known which workload answers: filters, CORS, the cookie of a session.
    package var changeResponse: (@Sendable (inout ResponseHead, _ workload: String) -> Void)?
    package var mirrors: [Mirror] = []
    package var trace: TraceContext?
    /// As in ``ExchangeReport/details``: policies that only note, and those on trial.
    package var note: String?

    package struct Mirror: Sendable {
        package var request: RequestHead
        package var backend: Backend
        package init(request: RequestHead, backend: Backend) {
            self.request = request
            self.backend = backend
        }
    }

    package init(request: RequestHead, backend: Backend) {
        self.request = request
        self.backend = backend
    }
}

package enum StreamPlan {
    case forward(Backend, route: String?)
    case refuse(flags: ExchangeFlags, details: String)
}
