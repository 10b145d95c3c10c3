package import MeshIdentity
internal import MeshTelemetry
internal import MeshTunnel
internal import Synchronization

/// Who talks to whom. Equal flows are one ``FlowLabels``.
package struct Flow: Hashable, Sendable {
    package enum Reporter: String, Hashable, Sendable { case source, destination }

    package var reporter: Reporter
    package var source: PeerAttributes?
    package var destination: PeerAttributes?
    package var service: ServiceAttributes?
    package var isMutualTLS: Bool
    /// Proven.
    package var sourceIdentity: WorkloadIdentity?
    /// Proven over mutual TLS; else the one that the destination would have to prove.
    package var destinationIdentity: WorkloadIdentity?

    package init(
        reporter: Reporter, source: PeerAttributes?, destination: PeerAttributes?, service: ServiceAttributes?,
        isMutualTLS: Bool, sourceIdentity: WorkloadIdentity?, destinationIdentity: WorkloadIdentity?
    ) {
        self.reporter = reporter
        self.source = source
        self.destination = destination
        self.service = service
        self.isMutualTLS = isMutualTLS
        self.sourceIdentity = sourceIdentity
        self.destinationIdentity = destinationIdentity
    }
}

/// What all connections of one flow share: the facts for their log lines, and the counters, found once.
package final class FlowLabels: ConnectionLabels {
    package let flow: Flow
    let opened: Counter
    let received: Counter
    let sent: Counter
    private let metrics: TrafficMetrics
    private let ended = Mutex<[ResponseFlag: (closed: Counter, failed: Counter?)]>([:])

    init(_ flow: Flow, _ metrics: TrafficMetrics) {
        self.flow = flow
        self.metrics = metrics
        let values = TrafficMetrics.values(flow, flag: .none)
        self.opened = metrics.opened.with(values)
        self.received = metrics.received.with(values)
        self.sent = metrics.sent.with(values)
    }

    func countEnd(_ flag: ResponseFlag) {
        let counters = self.ended.withLock { ended in
            if let found = ended[flag] { return found }
            let values = TrafficMetrics.values(self.flow, flag: flag)
            let new = (
                closed: self.metrics.closed.with(values),
                failed: flag == .none ? nil : self.metrics.failed.with(values)
            )
            ended[flag] = new
            return new
        }
        counters.closed.add()
        counters.failed?.add()
    }
}

/// Finds the one ``FlowLabels`` of a flow. Shared by all snapshots.
package final class FlowTable: Sendable {
    /// Flows remembered; more, and all are forgotten (connections keep theirs, and counters are never lost).
    static let flowsMax = 8192

    private let metrics: TrafficMetrics
    private let flows = Mutex<[Flow: FlowLabels]>([:])

    package init(_ metrics: TrafficMetrics) { self.metrics = metrics }

    package func labels(_ flow: Flow) -> FlowLabels {
        self.flows.withLock { flows in
            if let found = flows[flow] { return found }
            if flows.count >= Self.flowsMax { flows.removeAll(keepingCapacity: true) }
            let new = FlowLabels(flow, self.metrics)
            flows[flow] = new
            return new
        }
    }

    /// A workload was reached through its host name.
    package func countNameLookup(source: PeerAttributes, host: String) {
        self.metrics.onDemandDNS.with(TrafficMetrics.nameLookup(by: source, host)).add()
    }
}
