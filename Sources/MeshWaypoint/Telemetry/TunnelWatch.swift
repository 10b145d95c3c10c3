package import MeshDirectory
package import MeshModel
package import MeshTelemetry
package import MeshTunnel

/// What the tunnels around the waypoint's streams have to say: the streams themselves are reported by the engine.
package final class TunnelWatch: ConnectionObserver {
    private let log: MeshLog
    private let metrics: TrafficMetrics

    package init(log: MeshLog, metrics: TrafficMetrics) {
        self.log = log
        self.metrics = metrics
    }

    package func opened(_ connection: ConnectionRecord) {}
    package func moved(_ connection: ConnectionRecord, sent: UInt64, received: UInt64) {}
    package func closed(_ connection: ConnectionRecord, end: ConnectionEnd) {}

    package func refusedEarly(
        direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?, _ reason: RefusalReason
    ) {
        self.metrics.refused.with([direction.rawValue, reason.kind.rawValue]).add()
        var fields: [(key: String, value: LogLine.Value)] = []
        if let source { fields.append(("src.addr", .bare("\(source)"))) }
        if let destination { fields.append(("dst.addr", .bare("\(destination)"))) }
        fields.append(("direction", .text(direction.rawValue)))
        fields.append(("error", .text(reason.text)))
        self.log.write(
            LogLine(level: .warn, scope: ExchangeTelemetry.scope, message: "connection failed", fields: fields))
    }

    package func rejectedByRevocation(_ direction: ConnectionRecord.Direction) {
        self.metrics.revoked.with(["waypoint"]).add()
    }
}
