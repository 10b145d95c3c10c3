package import MeshIdentity
package import MeshTelemetry
package import MeshTunnel
internal import Synchronization

/// Who talks to whom. Equal flows are one ``FlowLabels``.
package struct Flow: Hashable, Sendable {
    package enum Reporter: String, Hashable, Sendable { case source, destination, waypoint }

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

    /// Over what tells flows apart as a rule: hashing all of some 25 texts took several microseconds of each connection.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(self.reporter)
        hasher.combine(self.isMutualTLS)
        hasher.combine(self.source?.name)
        hasher.combine(self.destination?.name)
        hasher.combine(self.service?.hostname)
    }
}

/// What all connections of one flow share: the facts for their log lines, and the counters, found once.
package final class FlowLabels: ConnectionLabels {
    package let flow: Flow
    package let opened: Counter
    package let received: Counter
    package let sent: Counter
    /// There was no room for series of its own.
    package let isOverflow: Bool
    private let metrics: TrafficMetrics
    private let ended = Mutex<[String: (closed: Counter, failed: Counter?)]>([:])

    init(_ flow: Flow, _ metrics: TrafficMetrics) {
        self.flow = flow
        self.metrics = metrics
        let values = TrafficMetrics.values(flow, flag: ResponseFlag.none.rawValue)
        let (opened, received, sent) = (
            metrics.opened.find(values), metrics.received.find(values), metrics.sent.find(values)
        )
        (self.opened, self.received, self.sent) = (opened.instrument, received.instrument, sent.instrument)
        self.isOverflow = opened.isOverflow || received.isOverflow || sent.isOverflow
    }

    package func countEnd(_ flag: ResponseFlag) { self.countEnd(flag.rawValue) }

    /// - Parameter flag: one of few texts: a label.
    package func countEnd(_ flag: String) {
        let counters = self.ended.withLock { ended in
            if let found = ended[flag] { return found }
            let values = TrafficMetrics.values(self.flow, flag: flag)
            let new = (
                closed: self.metrics.closed.with(values),
                failed: flag == ResponseFlag.none.rawValue ? nil : self.metrics.failed.with(values)
            )
            ended[flag] = new
            return new
        }
        counters.closed.add()
        counters.failed?.add()
    }
}

/// Finds the one ``FlowLabels`` of a flow. Shared by all snapshots.
package final class FlowTable: SeriesHolder {
    /// Flows remembered; more, and all are forgotten that have no open connection, or else all (connections keep theirs,
    /// and counters are never lost).
    static let flowsMax = 8192

    private struct Known {
        var labels: FlowLabels
        /// Connections, as the last look found them.
        var opened: UInt64
    }

    private let metrics: TrafficMetrics
    private let flows = Mutex<[Flow: Known]>([:])

    package init(_ metrics: TrafficMetrics) {
        self.metrics = metrics
        metrics.budget.add(holder: self)
    }

    package func labels(_ flow: Flow) -> FlowLabels {
        if let found = self.flows.withLock({ $0[flow]?.labels }), !found.isOverflow || !self.metrics.budget.hasRoom {
            return found
        }
        // Outside the lock: when the budget is used up it asks us to let go of something.
        let new = FlowLabels(flow, self.metrics)
        return self.flows.withLock { flows in
            // Another loop may have been faster.
            if let found = flows[flow]?.labels, !found.isOverflow || new.isOverflow { return found }
            if flows.count >= Self.flowsMax { Self.makeRoom(&flows) }
            flows[flow] = Known(labels: new, opened: new.opened.value)
            return new
        }
    }

    private static func makeRoom(_ flows: inout [Flow: Known]) {
        Self.removeIdle(&flows) { _ in true }
        // Not one by one, which would be a search for each new flow.
        if flows.count > Self.flowsMax * 3 / 4 { flows.removeAll(keepingCapacity: true) }
    }

    /// Forgets flows that have no open connection and had no new one since the last time, so that their series may go.
    package func releaseIdle() {
        self.flows.withLock { flows in
            Self.removeIdle(&flows) { known in
                defer { known.opened = known.labels.opened.value }
                return known.opened == known.labels.opened.value
            }
        }
    }

    private static func removeIdle(_ flows: inout [Flow: Known], where isIdle: (inout Known) -> Bool) {
        var idle: [Flow] = []
        var index = flows.startIndex
        while index != flows.endIndex {
            if isIdle(&flows.values[index]), isKnownUniquelyReferenced(&flows.values[index].labels) {
                idle.append(flows.keys[index])
            }
            index = flows.index(after: index)
        }
        for flow in idle { flows[flow] = nil }
    }

    /// How many flows are remembered.
    package var count: Int { self.flows.withLock { $0.count } }

    /// A workload was reached through its host name.
    package func countNameLookup(source: PeerAttributes, host: String) {
        self.metrics.onDemandDNS.with(TrafficMetrics.nameLookup(by: source, host)).add()
    }
}
