internal import Collections
package import MeshDirectory
package import MeshExchange
internal import MeshModel
internal import MeshRoutes
package import MeshTelemetry
internal import Synchronization

/// What happens to requests and streams, told to those who want to know: metrics, the access log, spans.
package final class ExchangeTelemetry: ExchangeObserver {
    /// Opaque streams whose counters are kept at hand; the counters of more are looked up at each report.
    static let streamsMax = 100_000
    private static let shardCount: UInt64 = 16

    private struct Settings {
        var picture: MeshPicture
        /// How lines are written; nil: none are.
        var log: AccessLogFormat?
        /// Of services that differ.
        var logsOf: TreeDictionary<NamespacedName, WaypointTelemetry> = [:]

        func log(of service: NamespacedName?, _ formats: AccessLogFormats) -> AccessLogFormat? {
            guard !self.logsOf.isEmpty, let own = service.flatMap({ self.logsOf[$0] }) else { return self.log }
            return own.isAccessLogEnabled ? formats.format(own.accessLog) : nil
        }
        var spans: SpanQueue?
    }

    private let log: MeshLog
    private let formats: AccessLogFormats
    private let exchanges: ExchangeTable
    private let flows: FlowTable
    private let settings: Mutex<Settings>
    private let shards: [Shard]

    private final class Shard: Sendable {
        let streams = Mutex<[UInt64: Live]>([:])
    }
    private struct Live {
        var labels: FlowLabels
        /// Counted already.
        var sent: UInt64 = 0
        var received: UInt64 = 0
    }

    package init(
        log: MeshLog, formats: AccessLogFormats, metrics: ExchangeMetrics, flows: FlowTable, picture: MeshPicture
    ) {
        self.log = log
        self.formats = formats
        self.exchanges = ExchangeTable(metrics)
        self.flows = flows
        self.settings = Mutex(Settings(picture: picture, log: formats.format(nil)))
        self.shards = (0..<Self.shardCount).map { _ in Shard() }
    }

    /// The mesh has changed.
    package func publish(_ picture: MeshPicture) { self.settings.withLock { $0.picture = picture } }

    /// The mesh or the rules have changed.
    package func publish(_ snapshot: WaypointSnapshot, spans: SpanQueue) {
        self.settings.withLock { settings in
            settings.picture = snapshot.mesh
            let own = snapshot.picture.waypoint?.telemetry ?? WaypointTelemetry()
            settings.log = own.isAccessLogEnabled ? self.formats.format(own.accessLog) : nil
            settings.logsOf = snapshot.picture.telemetry
            settings.spans = snapshot.picture.traceCollector == nil ? nil : spans
        }
    }

    /// - Parameter spans: where spans go; nil: none are made.
    package func publish(isAccessLogEnabled: Bool, spans: SpanQueue?) {
        self.settings.withLock { settings in
            settings.log = isAccessLogEnabled ? self.formats.format(nil) : nil
            settings.spans = spans
        }
    }

    package func finished(_ report: borrowing ExchangeReport) {
        let service = report.ends.service
        let (picture, format, spans) = self.settings.withLock {
            ($0.picture, $0.log(of: service, self.formats), $0.spans)
        }
        let series = self.exchanges.series(report, in: picture)
        series.count(report)
        if let format, self.log.allows(.info, scope: Self.scope) {
            let entry = AccessLogEntry(report, nowMicroseconds: Timestamp.microsecondsNow())
            self.log.write(raw: format.line(entry))
        }
        if let spans, let trace = report.trace, trace.isSampled {
            spans.add(Span(report, trace, series.facts, nowMicroseconds: Timestamp.microsecondsNow()))
        }
    }

    /// Of the access log's lines, for `RUST_LOG` and `/logging`.
    package static let scope = "access"

    // MARK: Streams

    package func opened(_ stream: borrowing StreamReport) {
        let labels = self.labels(stream)
        labels.opened.add()
        self.shard(stream.id).streams.withLock { streams in
            if streams.count < Self.streamsMax / Int(Self.shardCount) { streams[stream.id] = Live(labels: labels) }
        }
    }

    package func moved(_ stream: borrowing StreamReport, sent: UInt64, received: UInt64) {
        let known = self.shard(stream.id).streams.withLock { streams -> FlowLabels? in
            streams[stream.id]?.sent += sent
            streams[stream.id]?.received += received
            return streams[stream.id]?.labels
        }
        let labels = known ?? self.labels(stream)
        labels.sent.add(sent)
        labels.received.add(received)
    }

    package func closed(_ stream: borrowing StreamReport, _ end: borrowing StreamReport.End) {
        let live = self.shard(stream.id).streams.withLock { $0.removeValue(forKey: stream.id) }
        if let live {
            // What moved since the last report.
            live.labels.sent.add(end.sent - min(live.sent, end.sent))
            live.labels.received.add(end.received - min(live.received, end.received))
        }
        (live?.labels ?? self.labels(stream)).countEnd(end.flags.text)
        let service = stream.ends.service
        guard let format = self.settings.withLock({ $0.log(of: service, self.formats) }),
            self.log.allows(.info, scope: Self.scope)
        else { return }
        let entry = AccessLogEntry(stream, end, nowMicroseconds: Timestamp.microsecondsNow())
        self.log.write(raw: format.line(entry))
    }

    /// Combinations of labels whose counters are at hand.
    package var rememberedSeries: Int { self.exchanges.count }

    /// How many streams are open, as far as they are kept.
    package var openStreams: Int { self.shards.reduce(0) { $0 + $1.streams.withLock { $0.count } } }

    private func shard(_ id: UInt64) -> Shard { self.shards[Int(id % Self.shardCount)] }

    private func labels(_ stream: borrowing StreamReport) -> FlowLabels {
        let picture = self.settings.withLock { $0.picture }
        let facts = ExchangeFacts(stream.ends, in: picture.state, network: picture.network)
        return self.flows.labels(
            Flow(
                reporter: .waypoint, source: facts.source, destination: facts.destination, service: facts.service,
                isMutualTLS: stream.ends.clientIdentity != nil, sourceIdentity: stream.ends.clientIdentity,
                destinationIdentity: facts.destinationIdentity))
    }
}
