internal import MeshDNS
internal import MeshModel
internal import MeshTelemetry
internal import MeshTunnel

/// What becomes of one message of a pod.
enum DNSDecision {
    /// Too short to be answered.
    case ignore
    case reply([UInt8])
    case forward(DNSForwardRequest)
}

/// A message for the resolvers, and what is counted and logged about it.
struct DNSForwardRequest {
    var bytes: [UInt8]
    var query: DNSQuery
    var transport: DNSTransport
    /// Of the metrics.
    var labels: [String]
}

extension DNSService {
    /// Answers from the newest snapshot of the mesh, or passes on.
    ///
    /// A pod that the control plane has not named yet is answered too: its namespace is known from the node agent, and
    /// until it says otherwise its network is the node's.
    func decide(_ bytes: [UInt8], of pod: EnrolledPod, over transport: DNSTransport) -> DNSDecision {
        let snapshot = self.snapshot
        let workload = snapshot?.local(pod)
        let query: DNSQuery
        do throws(DNSQuery.Refusal) {
            query = try DNSQuery(bytes)
        } catch {
            self.metrics.requests.with(DNSMetrics.values(nil, transport, workload?.peer)).add()
            switch error {
            case .ignored: return .ignore
            case .answered(let code): return DNSWriter.refusal(of: bytes, code).map { .reply($0) } ?? .ignore
            }
        }
        let labels = DNSMetrics.values(query.question?.type, transport, workload?.peer)
        self.metrics.requests.with(labels).add()
        if let snapshot, let (name, isV6) = query.addressQuestion {
            let names = MeshNames(
                snapshot.state, clusterDomain: self.settings.clusterDomain,
                preferredNamespace: self.settings.preferredNamespace)
            let client = DNSClient(
                namespace: pod.namespace, network: workload?.workload.network ?? self.settings.network)
            var random = Draws()
            if let answer = self.resolver.answer(name, isV6: isV6, for: client, in: names, using: &random) {
                self.note(pod, query, Self.result(answer), endpoints: answer.addresses.count)
                return .reply(
                    DNSWriter.answer(answer, to: query, bytes, bytesMax: query.answerBytesMax(over: transport)))
            }
        }
        return .forward(DNSForwardRequest(bytes: bytes, query: query, transport: transport, labels: labels))
    }

    private static func result(_ answer: MeshAnswer) -> String {
        if answer.isFamilyExcluded { return "service does not support this record type" }
        return answer.addresses.isEmpty ? "no records" : "success"
    }

    /// One line of scope `dns`, for those who asked for them.
    func note(_ pod: EnrolledPod, _ query: DNSQuery, _ result: String, endpoints: Int? = nil) {
        guard self.log.allows(.debug, scope: Self.scope) else { return }
        var fields: [(key: String, value: LogLine.Value)] = [
            ("src.workload", .text(pod.name)), ("src.namespace", .text(pod.namespace)),
            ("query", .text(query.question?.type.label ?? "opcode \(query.header.opcode)")),
            ("domain", .text(query.question.map { "\($0.name)" } ?? "")), ("result", .text(result)),
        ]
        if let endpoints { fields.append(("endpoints", .integer(UInt64(endpoints)))) }
        self.log.write(LogLine(level: .debug, scope: Self.scope, message: "dns request", fields: fields))
    }
}
