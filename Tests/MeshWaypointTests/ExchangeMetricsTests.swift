import MeshDirectory
import MeshExchange
import MeshIdentity
import MeshModel
import MeshRoutes
import MeshTelemetry
import MeshWaypoint
import Testing

@Suite("A waypoint's metrics")
struct ExchangeMetricsTests {
    @Test("a request counts under Istio's names and labels, as a waypoint's")
    func labels() {
        let bench = TelemetryBench()
        bench.telemetry.finished(report())
        #expect(
            bench.samples("istio_requests_total") == [
                "istio_requests_total{reporter=\"waypoint\",source_workload=\"alice\",source_canonical_service=\"alice\","
                    + "source_canonical_revision=\"v1\",source_workload_namespace=\"shop\","
                    + "source_principal=\"spiffe://cluster.local/ns/shop/sa/alice\",source_app=\"alice\","
                    + "source_version=\"v1\",source_cluster=\"Kubernetes\",destination_workload=\"web\","
                    + "destination_workload_namespace=\"shop\","
                    + "destination_principal=\"spiffe://cluster.local/ns/shop/sa/web-1\",destination_app=\"web\","
                    + "destination_version=\"v1\",destination_service=\"web.shop.svc.cluster.local\","
                    + "destination_canonical_service=\"web\",destination_canonical_revision=\"v1\","
                    + "destination_service_name=\"web\",destination_service_namespace=\"shop\","
                    + "destination_cluster=\"Kubernetes\",request_protocol=\"http\",response_code=\"200\","
                    + "grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"mutual_tls\"} 1"
            ])
        #expect(bench.samples("istio_request_messages_total").isEmpty)
    }

    @Test("durations are in milliseconds and sizes in bytes, with Envoy's bounds")
    func histograms() {
        let bench = TelemetryBench()
        bench.telemetry.finished(report())
        func value(_ name: String, _ bound: String? = nil) -> Substring? {
            bench.samples(name).first { line in bound.map { line.contains("le=\"\($0)\"") } ?? true }?
                .split(separator: " ").last
        }
        #expect(value("istio_request_duration_milliseconds_sum") == "7.4")
        #expect(value("istio_request_duration_milliseconds_bucket", "5.0") == "0")
        #expect(value("istio_request_duration_milliseconds_bucket", "10.0") == "1")
        #expect(bench.samples("istio_request_duration_milliseconds_bucket").count == 20)
        #expect(value("istio_request_bytes_sum") == "3.0")
        #expect(value("istio_response_bytes_bucket", "1000.0") == "0")
        #expect(value("istio_response_bytes_bucket", "2500.0") == "1")
    }

    @Test("a gRPC call has its status, and its messages are counted")
    func grpc() {
        let bench = TelemetryBench()
        bench.telemetry.finished(
            report {
                $0.isGRPC = true
                $0.grpcStatus = 14
                $0.requestMessages = 2
                $0.responseMessages = 5
            })
        #expect(bench.samples("istio_requests_total")[0].contains("request_protocol=\"grpc\",response_code=\"200\","))
        #expect(bench.samples("istio_requests_total")[0].contains("grpc_response_status=\"14\""))
        #expect(bench.samples("istio_request_messages_total").first?.hasSuffix(" 2") == true)
        #expect(bench.samples("istio_response_messages_total").first?.hasSuffix(" 5") == true)
    }

    @Test("what is not known is called unknown, and a client without a name is no client of the mesh")
    func unknown() {
        let bench = TelemetryBench()
        bench.telemetry.finished(
            report {
                $0.ends.client = IPEndpoint("10.9.9.9:1")!
                $0.ends.clientIdentity = nil
                $0.ends.endpoint = nil
                $0.response = nil
                $0.flags = [.noHealthyUpstream, .upstreamConnectionFailure]
            })
        let sample = bench.samples("istio_requests_total")[0]
        for part in [
            "source_workload=\"unknown\"", "source_principal=\"unknown\"", "destination_workload=\"unknown\"",
            "response_code=\"0\"", "response_flags=\"UH,UF\"", "connection_security_policy=\"none\"",
        ] { #expect(sample.contains(part), "\(part)") }
    }

    @Test("an address says who a client is only if it fits what the client has proven")
    func impostor() {
        let bench = TelemetryBench()
        bench.telemetry.finished(
            report {
                $0.ends.clientIdentity = WorkloadIdentity(
                    trustDomain: "cluster.local", namespace: "gateways", serviceAccount: "east-west")
            })
        let sample = bench.samples("istio_requests_total")[0]
        #expect(sample.contains("source_workload=\"unknown\""))
        #expect(sample.contains("source_workload_namespace=\"gateways\""))
        #expect(sample.contains("source_principal=\"spiffe://cluster.local/ns/gateways/sa/east-west\""))
    }

    @Test("a backend that a route chose is the destination service")
    func backend() {
        let bench = TelemetryBench()
        bench.telemetry.finished(
            report { $0.ends.backend = NamespacedName(namespace: "shop", name: "canary.shop.svc.cluster.local") })
        // Not known to the mesh: better unknown than the service that was asked for.
        #expect(bench.samples("istio_requests_total")[0].contains("destination_service=\"unknown\""))
    }

    @Test("equal requests are one series, found without looking at the mesh again")
    func once() {
        let bench = TelemetryBench()
        for _ in 0..<100 { bench.telemetry.finished(report()) }
        bench.telemetry.finished(report { $0.response = ResponseHead(status: 503) })
        let samples = bench.samples("istio_requests_total")
        #expect(samples.count == 2)
        #expect(samples.first { $0.contains("\"200\"") }?.hasSuffix(" 100") == true)
        #expect(bench.telemetry.rememberedSeries == 2)
    }

    @Test("when a pod of another Deployment gets an address, its requests count under the new name")
    func addressReused() {
        let bench = TelemetryBench()
        bench.telemetry.finished(report())
        var state = shop()
        state.apply(
            upserted: [.workload(workload("bob", "10.0.0.1") { $0.serviceAccount = "alice" })],
            removed: ["Kubernetes//Pod/shop/alice"])
        bench.telemetry.publish(MeshPicture(state: state, network: ""))
        bench.telemetry.finished(report())
        let samples = bench.samples("istio_requests_total")
        #expect(samples.contains { $0.contains("source_workload=\"alice\"") && $0.hasSuffix(" 1") })
        #expect(samples.contains { $0.contains("source_workload=\"bob\"") && $0.hasSuffix(" 1") })
    }

    @Test("what has no room counts as overflow, and is heard of")
    func bounded() {
        // Room for one exchange: a counter and three histograms of 22 lines.
        let bench = TelemetryBench(seriesMax: 70)
        for code in 200..<210 { bench.telemetry.finished(report { $0.response = ResponseHead(status: code) }) }
        let samples = bench.samples("istio_requests_total")
        #expect(samples.count <= 5)
        #expect(samples.contains { $0.contains("reporter=\"overflow\"") })
        #expect(bench.budget.usedCount <= 70)
    }

    @Test("series of clients that are gone are dropped when room is needed")
    func evicted() {
        let clock = Clock()
        let bench = TelemetryBench(seriesMax: 100, now: { clock.now })
        bench.telemetry.finished(report())
        // One look notes that it was used, another that it was not used since; then it is idle for long.
        for _ in 0..<3 {
            _ = bench.registry.openMetrics()
            clock.advance(.seconds(700))
        }
        _ = bench.registry.openMetrics()
        #expect(bench.samples("istio_requests_total").isEmpty)
        bench.telemetry.finished(report())
        #expect(bench.samples("istio_requests_total").count == 1)
    }

    @Test("an opaque stream counts under Istio's TCP metrics")
    func stream() {
        let bench = TelemetryBench()
        let stream = StreamReport(id: 7, ends: report().ends, startedNanoseconds: 0)
        bench.telemetry.opened(stream)
        bench.telemetry.moved(stream, sent: 100, received: 30)
        #expect(bench.samples("istio_tcp_sent_bytes_total")[0].hasSuffix(" 100"))
        bench.telemetry.closed(
            stream, StreamReport.End(flags: .upstreamReset, sent: 150, received: 40, durationNanoseconds: 1))
        #expect(bench.samples("istio_tcp_connections_opened_total")[0].contains("reporter=\"waypoint\""))
        #expect(bench.samples("istio_tcp_sent_bytes_total")[0].hasSuffix(" 150"))
        #expect(bench.samples("istio_tcp_received_bytes_total")[0].hasSuffix(" 40"))
        #expect(bench.samples("istio_tcp_connections_closed_total")[0].contains("response_flags=\"UR\""))
        #expect(bench.telemetry.openStreams == 0)
    }
}
