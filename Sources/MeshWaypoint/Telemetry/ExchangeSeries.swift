internal import MeshExchange
internal import MeshIdentity
internal import MeshModel
internal import MeshTelemetry

/// Everything of a report that labels depend on. Equal keys are one ``ExchangeSeries``.
struct ExchangeKey: Hashable, Sendable {
    let client: IPAddress
    let clientIdentity: WorkloadIdentity?
    let service: NamespacedName?
    let backend: NamespacedName?
    let endpoint: String?
    let upstreamIdentity: WorkloadIdentity?
    let status: Int
    let grpcStatus: UInt32?
    let isGRPC: Bool
    let flags: ExchangeFlags

    init(_ report: borrowing ExchangeReport) {
        self.client = report.ends.client.address
        self.clientIdentity = report.ends.clientIdentity
        self.service = report.ends.service
        self.backend = report.ends.backend
        self.endpoint = report.ends.endpoint
        self.upstreamIdentity = report.ends.upstreamIdentity
        self.status = report.response?.status ?? 0
        self.grpcStatus = report.grpcStatus
        self.isGRPC = report.isGRPC
        self.flags = report.flags
    }

    /// Over what tells exchanges apart as a rule, and is short: the other texts are compared, which costs nothing when
    /// they are the same object.
    func hash(into hasher: inout Hasher) {
        hasher.combine(self.client.low)
        hasher.combine(self.status)
        hasher.combine(self.grpcStatus)
        hasher.combine(self.flags.rawValue)
        hasher.combine(self.endpoint)
    }
}

/// The counters of one combination of labels, found once.
final class ExchangeSeries: Sendable {
    /// As they were when the counters were found.
    let facts: ExchangeFacts
    let requests: Counter
    private let milliseconds, requestBytes, responseBytes: Histogram
    /// Of gRPC only.
    private let messages: (request: Counter, response: Counter)?
    /// There was no room for series of its own.
    let isOverflow: Bool

    init(_ key: ExchangeKey, _ facts: ExchangeFacts, _ metrics: ExchangeMetrics) {
        self.facts = facts
        let values = Self.values(key, facts)
        let requests = metrics.requests.find(values)
        let milliseconds = metrics.milliseconds.find(values)
        let (requestBytes, responseBytes) = (metrics.requestBytes.find(values), metrics.responseBytes.find(values))
        self.requests = requests.instrument
        self.milliseconds = milliseconds.instrument
        self.requestBytes = requestBytes.instrument
        self.responseBytes = responseBytes.instrument
        var isOverflow =
            requests.isOverflow || milliseconds.isOverflow || requestBytes.isOverflow || responseBytes.isOverflow
        if key.isGRPC {
            let (sent, received) = (metrics.requestMessages.find(values), metrics.responseMessages.find(values))
            self.messages = (sent.instrument, received.instrument)
            isOverflow = isOverflow || sent.isOverflow || received.isOverflow
        } else {
            self.messages = nil
        }
        self.isOverflow = isOverflow
    }

    func count(_ report: borrowing ExchangeReport) {
        self.requests.add()
        self.milliseconds.record(Double(report.durationNanoseconds) / 1_000_000)
        self.requestBytes.record(Double(report.requestBytes))
        self.responseBytes.record(Double(report.responseBytes))
        guard let messages else { return }
        messages.request.add(report.requestMessages)
        messages.response.add(report.responseMessages)
    }

    /// In the order of ``ExchangeMetrics/labels``.
    static func values(_ key: ExchangeKey, _ facts: ExchangeFacts) -> [String] {
        let (source, destination, service) = (facts.source, facts.destination, facts.service)
        let values: [String?] = [
            "waypoint", source?.workloadName, source?.canonicalName, source?.canonicalRevision,
            facts.sourceNamespace(key.clientIdentity), key.clientIdentity?.description, source?.app, source?.version,
            source?.cluster, destination?.workloadName, destination?.namespace,
            facts.destinationIdentity?.description, destination?.app, destination?.version, service?.hostname,
            destination?.canonicalName, destination?.canonicalRevision, service?.name, service?.namespace,
            destination?.cluster, key.isGRPC ? "grpc" : "http", String(key.status),
            // Empty where there is none, as Istio's: to Prometheus an empty label is no label.
            key.isGRPC ? key.grpcStatus.map { String($0) } ?? "" : "", key.flags.text,
            key.clientIdentity == nil ? "none" : "mutual_tls",
        ]
        return values.map { $0 ?? "unknown" }
    }
}
