import MeshDirectory
import MeshExchange
import MeshHTTP
import MeshIdentity
import MeshModel
import MeshRoutes
import MeshTelemetry
import MeshWaypoint
import Synchronization

/// Keeps what is written.
final class Memory: LogDestination {
    private let bytes = Mutex<[UInt8]>([])
    func write(_ bytes: [UInt8]) { self.bytes.withLock { $0 += bytes } }
    var text: String { self.bytes.withLock { String(decoding: $0, as: UTF8.self) } }
}

/// Stands still until it is moved.
final class Clock: Sendable {
    private let time = Mutex(ContinuousClock.now)
    var now: ContinuousClock.Instant { self.time.withLock { $0 } }
    func advance(_ by: Duration) { self.time.withLock { $0 += by } }
}

let alice = WorkloadIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "alice")
let web = NamespacedName(namespace: "shop", name: "web.shop.svc.cluster.local")

func workload(_ name: String, _ address: String, _ change: (inout Workload) -> Void = { _ in }) -> Workload {
    var workload = Workload(uid: "Kubernetes//Pod/shop/\(name)")
    workload.name = name
    workload.namespace = "shop"
    workload.workloadName = name
    workload.canonicalName = name
    workload.canonicalRevision = "v1"
    workload.serviceAccount = name
    workload.trustDomain = "cluster.local"
    workload.clusterID = "Kubernetes"
    workload.tunnelProtocol = .hbone
    workload.addresses = [IPAddress(address)!]
    change(&workload)
    return workload
}

func service(_ name: String = "web", _ address: String = "10.96.0.1", port: UInt16 = 80) -> Service {
    var service = Service(name: name, namespace: "shop", hostname: "\(name).shop.svc.cluster.local")
    service.addresses = [NetworkAddress(network: "", address: IPAddress(address)!)]
    service.ports = [ServicePort(port: port, targetPort: 8080, appProtocol: .http11)]
    return service
}

/// A client, a service and one endpoint of it.
func shop() -> MeshState {
    var state = MeshState(nodeName: "-")
    state.apply(
        upserted: [
            .service(service()), .workload(workload("alice", "10.0.0.1")),
            .workload(
                workload("web-1", "10.0.0.2") {
                    $0.workloadName = "web"
                    $0.canonicalName = "web"
                    $0.services = [web: [ServicePort(port: 80, targetPort: 8080)]]
                }),
        ], removed: [])
    return state
}

/// A request that went well: `GET /cart?id=1` with 200.
func report(_ change: (inout ExchangeReport) -> Void = { _ in }) -> ExchangeReport {
    var ends = ExchangeEnds(client: IPEndpoint("10.0.0.1:41000")!, clientIdentity: alice, port: 80)
    ends.service = web
    ends.local = IPEndpoint("10.96.0.1:80")!
    ends.endpoint = "Kubernetes//Pod/shop/web-1"
    ends.upstream = IPEndpoint("10.0.0.2:8080")!
    var report = ExchangeReport(
        ends: ends,
        request: RequestHead(
            method: "GET", scheme: "http", authority: "web", path: "/cart?id=1",
            fields: ["user-agent": "curl/8.5.0", "x-request-id": "8f6f"]),
        version: .http11, isGRPC: false, startedNanoseconds: 0)
    report.response = ResponseHead(status: 200, fields: ["content-type": "text/plain"])
    report.requestBytes = 3
    report.responseBytes = 1500
    report.durationNanoseconds = 7_400_000
    report.requestNanoseconds = 0
    report.responseNanoseconds = 6_000_000
    report.upstreamNanoseconds = 5_900_000
    report.attempts = 1
    change(&report)
    return report
}

/// Telemetry into memory.
struct TelemetryBench {
    let registry = MetricsRegistry()
    let memory = Memory()
    let log: MeshLog
    let metrics: ExchangeMetrics
    let telemetry: ExchangeTelemetry
    let budget: SeriesBudget

    init(
        format: AccessLogFormat = .standard, formats: AccessLogFormats? = nil, seriesMax: Int = 10_000,
        state: MeshState = shop(),
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        self.budget = SeriesBudget(seriesMax: seriesMax, now: now)
        self.registry.show(self.budget)
        self.log = MeshLog(destination: self.memory)
        self.metrics = ExchangeMetrics(self.registry, budget: self.budget)
        self.telemetry = ExchangeTelemetry(
            log: self.log, formats: formats ?? AccessLogFormats(own: format), metrics: self.metrics,
            flows: FlowTable(TrafficMetrics(self.registry, budget: self.budget)),
            picture: MeshPicture(state: state, network: ""))
    }

    /// The samples of one metric, as text.
    func samples(_ name: String) -> [String] {
        self.registry.openMetrics().split(separator: "\n").map(String.init).filter {
            $0.hasPrefix(name + "{") || $0.hasPrefix(name + " ")
        }
    }
}
