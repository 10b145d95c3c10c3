internal import Logging
package import MeshDNS
internal import MeshModel
package import MeshNameService
package import MeshTelemetry
internal import Synchronization

/// Answers the questions for names of a sidecar's application, which the pod's packet rules lead to us: names of the mesh
/// from the control plane's table, all others by the pod's resolvers. Before the first table all go to the resolvers.
package final class AgentNames: NameAnswers {
    /// As a directive of the log knows them.
    static let scope = "dns"

    private let namespace: String
    private let resolver: MeshNameResolver
    private let metrics: Metrics
    private let log: MeshLog
    private let table = Mutex<NameTable?>(nil)

    /// - Parameter resolvConf: text of the pod's: its search domains are tried as the pod's own resolver does.
    package init(_ configuration: AgentConfiguration, resolvConf: String, _ registry: MetricsRegistry, _ log: MeshLog) {
        self.namespace = configuration.podNamespace
        self.resolver = MeshNameResolver(
            clusterDomain: configuration.clusterDomain, searchDomains: DNSSearchDomains.parse(resolvConf))
        self.metrics = Metrics(registry)
        self.log = log
    }

    /// Questions that come from now on are answered from this; nil: by the resolvers.
    package func publish(_ table: NameTable?) {
        self.table.withLock { $0 = table }
        self.log.logger(Self.scope).debug(
            "names of the mesh", metadata: ["count": "\(table?.entries.count ?? 0)", "known": "\(table != nil)"])
    }

    package func decide(_ bytes: [UInt8], over transport: DNSTransport) -> DNSDecision {
        self.metrics.requests.with([]).add()
        let query: DNSQuery
        do throws(DNSQuery.Refusal) {
            query = try DNSQuery(bytes)
        } catch {
            switch error {
            case .ignored: return .ignore
            case .answered(let code): return DNSWriter.refusal(of: bytes, code).map { .reply($0) } ?? .ignore
            }
        }
        if let (name, isV6) = query.addressQuestion, let table = self.table.withLock({ $0 }) {
            // The table is made for this client: what is visible and nearest was decided there.
            let client = DNSClient(namespace: self.namespace, network: "")
            var random = Draws()
            if let answer = self.resolver.answer(name, isV6: isV6, for: client, in: table, using: &random) {
                self.note(query, "success", addresses: answer.addresses.count)
                return .reply(
                    DNSWriter.answer(answer, to: query, bytes, bytesMax: query.answerBytesMax(over: transport)))
            }
        }
        return .forward(DNSForwardRequest(bytes: bytes, query: query, transport: transport, labels: []))
    }

    package func forwarding(_ request: DNSForwardRequest) { self.metrics.upstreamRequests.with([]).add() }

    package func forwarded(_ request: DNSForwardRequest, seconds: Double) {
        self.metrics.upstreamSeconds.with([]).record(seconds)
        self.note(request.query, "forwarded")
    }

    package func failed(_ request: DNSForwardRequest, _ failure: DNSForwardFailure) {
        self.metrics.upstreamFailures.with([]).add()
        self.note(request.query, "forwarding failed (\(failure))")
    }

    /// One line, for those who asked for them.
    private func note(_ query: DNSQuery, _ result: String, addresses: Int? = nil) {
        guard self.log.allows(.debug, scope: Self.scope) else { return }
        var fields: [(key: String, value: LogLine.Value)] = [
            ("query", .text(query.question?.type.label ?? "opcode \(query.header.opcode)")),
            ("domain", .text(query.question.map { "\($0.name)" } ?? "")), ("result", .text(result)),
        ]
        if let addresses { fields.append(("addresses", .integer(UInt64(addresses)))) }
        self.log.write(LogLine(level: .debug, scope: Self.scope, message: "dns request", fields: fields))
    }

    /// Istio's of its agent.
    private struct Metrics {
        let requests, upstreamRequests, upstreamFailures: CounterFamily
        let upstreamSeconds: HistogramFamily

        init(_ registry: MetricsRegistry) {
            self.requests = registry.counter(
                "istio_agent_dns_requests_total", "The total number of captured DNS requests")
            self.upstreamRequests = registry.counter(
                "istio_agent_dns_upstream_requests_total",
                "The total number of DNS requests passed on to a resolver")
            self.upstreamFailures = registry.counter(
                "istio_agent_dns_upstream_failures_total",
                "The total number of DNS requests that no resolver answered")
            self.upstreamSeconds = registry.histogram(
                "istio_agent_dns_upstream_request_duration_seconds",
                "The time in seconds until a resolver answered a DNS request",
                bounds: [0.005, 0.01, 0.1, 1, 5])
        }
    }
}
