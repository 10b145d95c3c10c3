package import MeshDirectory
package import MeshModel
package import MeshTelemetry
package import MeshTunnel
internal import Synchronization

/// What happens to connections, told to those who want to know: counters, the access log, the live tables of
/// `config_dump`.
package final class ConnectionTelemetry: ConnectionObserver {
    /// Connections in the live tables; more are counted and logged, but not listed.
    static let listedMax = 200_000
    private static let shardCount: UInt64 = 16

    private let log: MeshLog
    private let metrics: TrafficMetrics
    /// Several, so that event loops seldom wait for each other. By connection id.
    private let shards: [Shard]

    private struct Live {
        var record: ConnectionRecord
        /// Counted already.
        var sent: UInt64 = 0
        var received: UInt64 = 0
    }
    private final class Shard: Sendable {
        let connections = Mutex<[UInt64: Live]>([:])
    }

    package init(log: MeshLog, metrics: TrafficMetrics) {
        self.log = log
        self.metrics = metrics
        self.shards = (0..<Self.shardCount).map { _ in Shard() }
    }

    package func opened(_ connection: ConnectionRecord) {
        (connection.labels as? FlowLabels)?.opened.add()
        if self.log.allows(.debug, scope: AccessLog.scope) { self.log.write(AccessLog.opened(connection)) }
        self.shard(connection).connections.withLock { connections in
            guard connections.count < Self.listedMax / Int(Self.shardCount) else { return }
            connections[connection.id] = Live(record: connection)
        }
    }

    package func moved(_ connection: ConnectionRecord, sent: UInt64, received: UInt64) {
        self.shard(connection).connections.withLock { connections in
            connections[connection.id]?.sent += sent
            connections[connection.id]?.received += received
        }
        self.count(connection, sent: sent, received: received)
    }

    private func count(_ connection: ConnectionRecord, sent: UInt64, received: UInt64) {
        guard let labels = connection.labels as? FlowLabels else { return }
        labels.sent.add(sent)
        labels.received.add(received)
    }

    package func closed(_ connection: ConnectionRecord, end: ConnectionEnd) {
        let live = self.shard(connection).connections.withLock { $0.removeValue(forKey: connection.id) }
        if let live {
            // What moved since the last report.
            self.count(
                connection, sent: end.sent - min(live.sent, end.sent),
                received: end.received - min(live.received, end.received))
        }
        (connection.labels as? FlowLabels)?.countEnd(end.flag)
        if self.log.allows(end.error == nil ? .info : .error, scope: AccessLog.scope) {
            self.log.write(AccessLog.closed(connection, end))
        }
    }

    package func refusedEarly(
        direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?, _ reason: RefusalReason
    ) {
        self.metrics.refused.with([direction.rawValue, reason.kind.rawValue]).add()
        self.log.write(AccessLog.refusedEarly(direction, source: source, destination: destination, reason))
    }

    package func rejectedByRevocation(_ direction: ConnectionRecord.Direction) {
        let reporter: Flow.Reporter = direction == .inbound ? .destination : .source
        self.metrics.revoked.with([reporter.rawValue]).add()
    }

    package func ejected(_ endpoint: IPAddress, for time: Duration, because reason: String) {
        self.metrics.ejected.with().add()
        self.log.write(
            LogLine(
                level: .warn, scope: "endpoints", message: "endpoint keeps failing; others are preferred for a while",
                fields: [
                    ("endpoint", .bare("\(endpoint)")), ("seconds", .integer(UInt64(time.components.seconds))),
                    ("error", .text(reason)),
                ]))
    }

    /// The live connections of all pods, oldest first.
    package var live: [ConnectionRecord] {
        self.shards.flatMap { $0.connections.withLock { $0.values.map(\.record) } }.sorted { $0.id < $1.id }
    }

    private func shard(_ connection: ConnectionRecord) -> Shard {
        self.shards[Int(connection.id % Self.shardCount)]
    }
}
