package import MeshModel

/// Everything that a waypoint does for one service: one xDS resource, whose name is the service's `<namespace>/<hostname>`.
///
/// Addresses, ports, their protocols and endpoints come with the service and its workloads on the address stream.
package struct ServiceRules: Hashable, Sendable {
    package var key: NamespacedName
    package var routes: [HTTPRoute] = []
    package var streams: [StreamRoute] = []
    package var gate = TrafficGate()
    package var balancing = BackendBalancing()
    /// Nil: as the waypoint's.
    package var telemetry: WaypointTelemetry?

    package init(key: NamespacedName) { self.key = key }
}

/// What holds for all traffic through one waypoint, from policies that are attached to its Gateway or GatewayClass: one
/// resource, whose name is the Gateway's `<namespace>/<name>`.
package struct WaypointRules: Hashable, Sendable {
    package enum TrafficType: UInt8, Hashable, Sendable { case service = 0, workload, all, none }

    package var key: NamespacedName
    package var trafficType: TrafficType
    package var gate = TrafficGate()
    package var telemetry = WaypointTelemetry()

    package init(key: NamespacedName, trafficType: TrafficType = .service) {
        self.key = key
        self.trafficType = trafficType
    }
}

/// Who may pass, in the order in which it is asked: tokens, DENY, ALLOW, rate.
package struct TrafficGate: Hashable, Sendable {
    package var tokens: [TokenPolicy] = []
    package var policies: [RequestPolicy] = []
    package var rateLimits: [RateLimit] = []
    /// A policy here cannot be enforced: everything is refused, and this is why.
    package var closedBecause: String?

    package init() {}
}

/// A bucket of so many requests, filled evenly; each waypoint process has its own.
package struct RateLimit: Hashable, Sendable {
    package var key: NamespacedName
    package var requests: UInt32
    package var interval: Duration
    /// What may come at once.
    package var burst: UInt32

    package init(key: NamespacedName, requests: UInt32, interval: Duration, burst: UInt32) {
        self.key = key
        self.requests = requests
        self.interval = interval
        self.burst = burst
    }
}

/// How a service's endpoints are chosen and spared.
package struct BackendBalancing: Hashable, Sendable {
    package enum Choice: Hashable, Sendable {
        case leastRequest, roundRobin, random
        case hashHeader(String)
        /// A cookie that is set for `lifetime` when the request has none; nil: until the client's session ends.
        case hashCookie(name: String, path: String, lifetime: Duration?)
        case hashSource
        case hashQuery(String)
    }

    package var choice = Choice.leastRequest
    /// Retries at a time, in percent of the requests under way, but ``retriesMin`` always.
    package var retryBudgetPercent: UInt32 = 20
    package var retriesMin: UInt32 = 3
    package var ejection = EndpointEjection()
    /// Requests under way at a time, of one waypoint process; more are answered with 503. Nil: no limit.
    package var requestsMax: UInt32?
    /// The same for streams that are not looked into; more are refused.
    package var streamsMax: UInt32?

    package init() {}
}

/// When an endpoint that keeps failing is passed over, as long as others are left. Counted by each event loop for itself.
package struct EndpointEjection: Hashable, Sendable {
    /// One after the other: answers of 500 and more, connections that could not be made or broke. 0: not for that.
    package var failures: UInt32 = 5
    /// Of those only 502, 503, 504 and the connections. 0: not for that.
    package var gatewayFailures: UInt32 = 0
    /// For how long; times the number of ejections in a row, up to ten.
    package var time: Duration = .seconds(30)
    /// Of a backend's endpoints, in percent; one always may be.
    package var percentMax: UInt32 = 100

    package init() {}
}

package struct WaypointTelemetry: Hashable, Sendable {
    package var isAccessLogEnabled = true
    /// Nil: nobody said how.
    package var accessLog: AccessLogStyle?
    /// Of requests without a decision of their caller, in percent.
    package var tracePercent = 0.0
    /// `http://host:port/v1/traces` of an OTLP collector; nil: no spans.
    package var traceCollector: String?

    package init() {}
}

/// How a line of the access log is written, in Envoy's format strings.
package struct AccessLogStyle: Hashable, Sendable {
    package enum Encoding: UInt8, Hashable, Sendable { case text = 0, json }

    package var encoding: Encoding
    /// A format string; for JSON an object of names and format strings, as text. Nil: the encoding's usual one.
    package var format: String?

    package init(_ encoding: Encoding, format: String? = nil) {
        self.encoding = encoding
        self.format = format
    }
}
