import MeshDirectory
import MeshIdentity
import MeshModel
import MeshProxy
import MeshTelemetry
import MeshTunnel
import Synchronization
import Testing

/// Keeps what is written.
final class Memory: LogDestination {
    private let bytes = Mutex<[UInt8]>([])
    func write(_ bytes: [UInt8]) { self.bytes.withLock { $0 += bytes } }
    /// Without the time.
    var lines: [String] {
        self.bytes.withLock { String(decoding: $0, as: UTF8.self) }.split(separator: "\n")
            .map { $0.split(separator: "\t").dropFirst().joined(separator: "\t") }
    }
}

@Suite("Telemetry of connections")
struct TelemetryTests {
    private let registry = MetricsRegistry()
    private let memory = Memory()
    private let flows: FlowTable
    private let log: MeshLog
    private let telemetry: ConnectionTelemetry

    init() {
        let metrics = TrafficMetrics(self.registry, budget: SeriesBudget())
        self.flows = FlowTable(metrics)
        self.log = MeshLog(destination: self.memory)
        self.telemetry = ConnectionTelemetry(log: self.log, metrics: metrics)
    }

    @Test("W12, W13: peers that are refused or cut because they are revoked are counted by the side that did it")
    func revoked() {
        self.telemetry.rejectedByRevocation(.inbound)
        self.telemetry.rejectedByRevocation(.outbound)
        self.telemetry.rejectedByRevocation(.outbound)
        let text = self.registry.openMetrics()
        #expect(text.contains("istio_crl_policy_rejections_total{reporter=\"destination\"} 1"))
        #expect(text.contains("istio_crl_policy_rejections_total{reporter=\"source\"} 2"))
    }

    private func flow(_ reporter: Flow.Reporter, mutualTLS: Bool = true) -> Flow {
        let client = workload("client", "10.1.0.1") { $0.locality = Locality(region: "r1", zone: "z1") }
        let server = workload("server", "10.1.0.2")
        return Flow(
            reporter: reporter, source: PeerAttributes(client), destination: PeerAttributes(server),
            service: ServiceAttributes(service("web", "10.2.0.1")), isMutualTLS: mutualTLS,
            sourceIdentity: mutualTLS ? client.identity : nil, destinationIdentity: server.identity)
    }

    private func outbound(_ id: UInt64 = 1) -> ConnectionRecord {
        ConnectionRecord(
            id: id, direction: .outbound, transport: .hbone, pod: pod("client"), source: IPEndpoint("10.1.0.1:40000")!,
            originalDestination: IPEndpoint("10.2.0.1:80")!, destination: IPEndpoint("10.1.0.2:15008")!,
            authority: "10.1.0.2:8080", peerIdentity: nil, labels: self.flows.labels(self.flow(.source)),
            openedAtNanoseconds: 0)
    }

    private func inbound() -> ConnectionRecord {
        ConnectionRecord(
            id: 2, direction: .inbound, transport: .hbone, pod: pod("server"), source: IPEndpoint("10.1.0.1:41000")!,
            originalDestination: IPEndpoint("10.1.0.2:15008")!, destination: IPEndpoint("10.1.0.2:8080")!,
            authority: "10.1.0.2:8080", peerIdentity: nil, labels: self.flows.labels(self.flow(.destination)),
            openedAtNanoseconds: 0)
    }

    private func end(_ flag: ResponseFlag = .none, _ error: String? = nil) -> ConnectionEnd {
        ConnectionEnd(flag: flag, error: error, sent: 22, received: 11, durationNanoseconds: 13_900_000)
    }

    @Test("W6: lines of both sides, byte counts from each application's angle")
    func accessLines() async {
        for record in [self.outbound(), self.inbound()] {
            self.telemetry.opened(record)
            self.telemetry.closed(record, end: self.end())
        }
        await self.log.flush()
        let both =
            "src.workload=\"client\" src.namespace=\"ns1\" src.identity=\"spiffe://cluster.local/ns/ns1/sa/client\" "
            + "src.cluster=\"Kubernetes\" "
        let to =
            "dst.hbone_addr=10.1.0.2:8080 dst.service=\"web.ns1.svc.cluster.local\" dst.workload=\"server\" "
            + "dst.namespace=\"ns1\" dst.identity=\"spiffe://cluster.local/ns/ns1/sa/server\" "
            + "dst.cluster=\"Kubernetes\" "
        #expect(
            self.memory.lines == [
                "info\taccess\tconnection complete\tsrc.addr=10.1.0.1:40000 \(both)dst.addr=10.1.0.2:15008 \(to)"
                    + "direction=\"outbound\" bytes_sent=11 bytes_recv=22 duration=\"13ms\"",
                "info\taccess\tconnection complete\tsrc.addr=10.1.0.1:41000 \(both)dst.addr=10.1.0.2:15008 \(to)"
                    + "direction=\"inbound\" bytes_sent=22 bytes_recv=11 duration=\"13ms\"",
            ])
    }

    @Test("W7: plaintext has no identities")
    func plaintextLine() async {
        var record = self.inbound()
        record.authority = nil
        record.originalDestination = IPEndpoint("10.1.0.2:8080")!
        record.labels = self.flows.labels(self.flow(.destination, mutualTLS: false))
        self.telemetry.closed(record, end: self.end(.connect, "no answer"))
        await self.log.flush()
        let line = self.memory.lines.first ?? ""
        #expect(line.hasPrefix("error\taccess\tconnection complete\t"))
        #expect(!line.contains("identity"))
        #expect(!line.contains("hbone"))
        #expect(line.contains(" dst.addr=10.1.0.2:8080 "))
        #expect(line.hasSuffix(" duration=\"13ms\" error=\"no answer\""))
    }

    @Test("an early deny has addresses, direction and reason only")
    func earlyDeny() async {
        self.telemetry.refusedEarly(
            direction: .outbound, source: IPEndpoint("10.1.0.1:4"), destination: IPEndpoint("127.0.0.1:15001"),
            RefusalReason(.connect, "attempted recursive call to ourselves"))
        await self.log.flush()
        #expect(
            self.memory.lines == [
                "warn\taccess\tconnection failed\tsrc.addr=10.1.0.1:4 dst.addr=127.0.0.1:15001 "
                    + "direction=\"outbound\" error=\"attempted recursive call to ourselves\""
            ])
        #expect(!self.registry.openMetrics().contains("istio_tcp_connections"))
    }

    @Test("every early refusal is counted by its reason and explained", arguments: RefusalReason.Kind.allCases)
    func refusals(kind: RefusalReason.Kind) async {
        for direction in [ConnectionRecord.Direction.inbound, .outbound] {
            self.telemetry.refusedEarly(
                direction: direction, source: nil, destination: nil, RefusalReason(.connect, "why", kind: kind))
        }
        await self.log.flush()
        #expect(self.memory.lines.count { $0.hasSuffix("error=\"why\"") } == 2)
        for direction in ["inbound", "outbound"] {
            let series = "martlet_connections_refused_total{direction=\"\(direction)\",reason=\"\(kind.rawValue)\"} 1\n"
            #expect(self.registry.openMetrics().contains(series))
        }
    }

    @Test("12.1: as JSON a line has the same keys in the same order")
    func jsonLine() async throws {
        let plain = AccessLog.closed(self.outbound(), self.end(.connect, "no answer"))
        let json = String(decoding: plain.bytes(.json), as: UTF8.self)
        let keys = [
            "level", "time", "scope", "message", "src.addr", "src.workload", "src.namespace", "src.identity",
            "src.cluster", "dst.addr", "dst.hbone_addr", "dst.service", "dst.workload", "dst.namespace", "dst.identity",
            "dst.cluster", "direction", "bytes_sent", "bytes_recv", "duration", "error",
        ]
        let found = json.matches(of: #/[{,]"([a-z_.]+)":/#).map { String($0.output.1) }
        #expect(found == keys)
        #expect(json.contains(#""bytes_sent":11,"bytes_recv":22,"duration":"13ms","error":"no answer"}"#))
    }

    @Test("opening is logged at debug level")
    func openedLine() async throws {
        self.telemetry.opened(self.outbound())
        try self.log.filter.merge("access=debug")
        self.telemetry.opened(self.inbound())
        await self.log.flush()
        #expect(self.memory.lines.count == 1)
        #expect(self.memory.lines.first?.hasPrefix("debug\taccess\tconnection opened\tsrc.addr=10.1.0.1:41000") == true)
    }

    @Test("12.2: counters have Istio's labels in Istio's order")
    func labels() throws {
        self.telemetry.opened(self.outbound())
        let line = try #require(
            self.registry.openMetrics().split(separator: "\n").first {
                $0.hasPrefix("istio_tcp_connections_opened_total{")
            })
        let expected = [
            "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"client-deployment\",",
            "source_canonical_service=\"client\",source_canonical_revision=\"v1\",",
            "source_workload_namespace=\"ns1\",",
            "source_principal=\"spiffe://cluster.local/ns/ns1/sa/client\",source_app=\"client\",",
            "source_version=\"v1\",source_cluster=\"Kubernetes\",",
            "destination_service=\"web.ns1.svc.cluster.local\",destination_service_namespace=\"ns1\",",
            "destination_service_name=\"web\",destination_workload=\"server-deployment\",",
            "destination_canonical_service=\"server\",destination_canonical_revision=\"v1\",",
            "destination_workload_namespace=\"ns1\",",
            "destination_principal=\"spiffe://cluster.local/ns/ns1/sa/server\",destination_app=\"server\",",
            "destination_version=\"v1\",destination_cluster=\"Kubernetes\",request_protocol=\"tcp\",",
            "response_flags=\"-\",connection_security_policy=\"mutual_tls\",source_region=\"r1\",",
            "source_zone=\"z1\",destination_region=\"unknown\",destination_zone=\"unknown\"} 1",
        ].joined()
        #expect(line == expected)
    }

    @Test("unknown ends are called unknown, without regions and zones")
    func unknownLabels() {
        _ = self.flows.labels(
            Flow(
                reporter: .source, source: nil, destination: nil, service: nil, isMutualTLS: false,
                sourceIdentity: nil, destinationIdentity: nil))
        let text = self.registry.openMetrics()
        #expect(text.contains("source_workload=\"unknown\""))
        #expect(text.contains("connection_security_policy=\"unknown\"}"))
        #expect(!text.contains("region"))
    }

    private func value(_ name: String, _ part: String = "") -> Int {
        // With Foundation imported somewhere in this target, `contains("")` is false.
        self.registry.openMetrics().split(separator: "\n")
            .filter { $0.hasPrefix(name + "{") && (part.isEmpty || $0.contains(part)) }
            .reduce(0) { $0 + (Int($1.split(separator: " ").last ?? "") ?? 0) }
    }

    @Test("W6: bytes count once, while they move and at the end")
    func bytes() {
        let record = self.outbound()
        self.telemetry.opened(record)
        self.telemetry.moved(record, sent: 10, received: 4)
        #expect(self.value("istio_tcp_sent_bytes_total") == 10)
        self.telemetry.moved(record, sent: 2, received: 0)
        self.telemetry.closed(record, end: self.end())
        #expect(self.value("istio_tcp_sent_bytes_total") == 22)
        #expect(self.value("istio_tcp_received_bytes_total") == 11)
        #expect(self.value("istio_tcp_connections_closed_total", "response_flags=\"-\"") == 1)
        #expect(self.value("istio_tcp_connections_failed_total") == 0)
    }

    @Test("failures are counted with their flag", arguments: ResponseFlag.allCases.filter { $0 != .none })
    func failures(flag: ResponseFlag) {
        self.telemetry.opened(self.outbound())
        self.telemetry.closed(self.outbound(), end: self.end(flag, "x"))
        #expect(self.value("istio_tcp_connections_failed_total", "response_flags=\"\(flag.rawValue)\"") == 1)
        #expect(self.value("istio_tcp_connections_closed_total", "response_flags=\"\(flag.rawValue)\"") == 1)
    }

    @Test("live connections are listed until they close")
    func live() {
        self.telemetry.opened(self.inbound())
        self.telemetry.opened(self.outbound())
        #expect(self.telemetry.live.map(\.id) == [1, 2])
        self.telemetry.closed(self.outbound(), end: self.end())
        #expect(self.telemetry.live.map(\.id) == [2])
    }

    @Test("flows without a connection are let go of, and their series with them; those with one stay")
    func idleFlows() async {
        let time = Mutex(ContinuousClock.now)
        let budget = SeriesBudget(seriesMax: 6) { time.withLock { $0 } }
        let registry = MetricsRegistry()
        let metrics = TrafficMetrics(registry, budget: budget)
        let flows = FlowTable(metrics)
        let telemetry = ConnectionTelemetry(log: self.log, metrics: metrics)
        registry.show(budget)
        func scrape() -> String {
            time.withLock { $0 += SeriesBudget.idleAfter }
            return registry.openMetrics()
        }
        var open = self.outbound(1)
        open.labels = flows.labels(self.flow(.source))
        var short = self.inbound()
        short.labels = flows.labels(self.flow(.destination))
        for record in [open, short] { telemetry.opened(record) }
        #expect(budget.usedCount == 6)
        // No room for the label of its end: it counts under overflow, which is better than nowhere.
        telemetry.closed(short, end: self.end())
        short.labels = nil
        #expect(
            registry.openMetrics().contains(
                "istio_tcp_connections_closed_total{reporter=\"overflow\",source_workload=\"overflow\""))
        // A flow that nobody had room for counts there too ...
        let late = flows.labels(self.flow(.source, mutualTLS: false))
        #expect(late.isOverflow)
        // ... until those that rest make room.
        _ = scrape()
        #expect(budget.usedCount == 3)
        #expect(flows.count == 2)
        #expect(!flows.labels(self.flow(.source, mutualTLS: false)).isOverflow)
        telemetry.moved(open, sent: 5, received: 1)
        let text = scrape()
        #expect(text.contains("istio_tcp_connections_opened_total{reporter=\"source\""))
        #expect(!text.contains("istio_tcp_connections_opened_total{reporter=\"destination\""))
        #expect(
            text.split(separator: "\n").contains {
                $0.hasPrefix("istio_tcp_sent_bytes_total{reporter=\"source\"") && $0.hasSuffix(" 5")
            })
        telemetry.closed(open, end: self.end())
    }

    @Test("equal flows share their labels")
    func interned() {
        #expect(self.flows.labels(self.flow(.source)) === self.flows.labels(self.flow(.source)))
        #expect(self.flows.labels(self.flow(.source)) !== self.flows.labels(self.flow(.destination)))
    }
}
