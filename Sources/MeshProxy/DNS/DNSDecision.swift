internal import MeshDNS
internal import MeshModel
internal import MeshNameService
internal import MeshTelemetry
internal import MeshTunnel

/// What one pod's name server answers. It and the service hold each other until the pod leaves.
struct PodNames: NameAnswers {
    let service: DNSService
    let pod: EnrolledPod

    func decide(_ bytes: [UInt8], over transport: DNSTransport) -> DNSDecision {
        self.service.decide(bytes, of: self.pod, over: transport)
    }

    func forwarding(_ request: DNSForwardRequest) {
        self.service.metrics.upstreamRequests.with(request.labels).add()
    }

    func forwarded(_ request: DNSForwardRequest, seconds: Double) {
        self.service.metrics.upstreamSeconds.with(request.labels).record(seconds)
        self.service.note(self.pod, request.query, "forwarded")
    }

    func failed(_ request: DNSForwardRequest, _ failure: DNSForwardFailure) {
        self.service.metrics.upstreamFailures.with(request.labels).add()
        self.service.note(self.pod, request.query, "forwarding failed (\(failure))")
    }
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
