internal import MeshDirectory
package import MeshModel
package import MeshTelemetry
package import MeshTunnel

/// The lines of scope `access`: one per connection, keys and order as Istio's node proxy writes them.
package enum AccessLog {
    package static let scope = "access"

    package static func opened(_ record: ConnectionRecord) -> LogLine {
        LogLine(level: .debug, scope: Self.scope, message: "connection opened", fields: Self.fields(record))
    }

    package static func closed(_ record: ConnectionRecord, _ end: ConnectionEnd) -> LogLine {
        var fields = Self.fields(record)
        // Seen from the local application: outbound it is the client, inbound the server.
        let (fromApplication, toApplication) =
            record.direction == .outbound ? (end.received, end.sent) : (end.sent, end.received)
        fields.append(("bytes_sent", .integer(fromApplication)))
        fields.append(("bytes_recv", .integer(toApplication)))
        fields.append(("duration", .text("\(end.durationNanoseconds / 1_000_000)ms")))
        if let error = end.error { fields.append(("error", .text(error))) }
        return LogLine(
            level: end.error == nil ? .info : .error, scope: Self.scope, message: "connection complete",
            fields: fields)
    }

    package static func refusedEarly(
        _ direction: ConnectionRecord.Direction, source: IPEndpoint?, destination: IPEndpoint?,
        _ reason: RefusalReason
    ) -> LogLine {
        var fields: [(key: String, value: LogLine.Value)] = []
        if let source { fields.append(("src.addr", .bare("\(source)"))) }
        if let destination { fields.append(("dst.addr", .bare("\(destination)"))) }
        fields.append(("direction", .text(direction.rawValue)))
        fields.append(("error", .text(reason.text)))
        return LogLine(level: .warn, scope: Self.scope, message: "connection failed", fields: fields)
    }

    private static func fields(_ record: ConnectionRecord) -> [(key: String, value: LogLine.Value)] {
        var fields: [(key: String, value: LogLine.Value)] = []
        fields.reserveCapacity(18)
        let flow = (record.labels as? FlowLabels)?.flow
        let isMutualTLS = flow?.isMutualTLS ?? false
        func add(_ key: String, _ text: String?) { if let text { fields.append((key, .text(text))) } }
        fields.append(("src.addr", .bare("\(record.source)")))
        add("src.workload", flow?.source?.name)
        add("src.namespace", flow?.source?.namespace)
        if isMutualTLS { add("src.identity", flow?.sourceIdentity?.description) }
        add("src.cluster", flow?.source?.cluster)
        // Outbound: what was really dialled. Inbound: where it arrived, or what the plaintext client dialled.
        let destination = record.direction == .outbound ? record.destination : record.originalDestination
        fields.append(("dst.addr", .bare("\(destination)")))
        if let authority = record.authority { fields.append(("dst.hbone_addr", .bare(authority))) }
        add("dst.service", flow?.service?.hostname)
        add("dst.workload", flow?.destination?.name)
        add("dst.namespace", flow?.destination?.namespace)
        if isMutualTLS {
            let proven = record.direction == .outbound ? record.peerIdentity : nil
            add("dst.identity", (proven ?? flow?.destinationIdentity)?.description)
        }
        add("dst.cluster", flow?.destination?.cluster)
        add("direction", record.direction.rawValue)
        return fields
    }
}
