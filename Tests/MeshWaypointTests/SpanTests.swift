import Foundation
import Logging
import MeshExchange
import MeshTelemetry
import MeshWaypoint
import Synchronization
import Testing

@Suite("Spans of a waypoint", .timeLimit(.minutes(2)))
struct SpanTests {
    private typealias Post = (address: String, body: [UInt8])
    private let posts: AsyncStream<Post>
    private let posted: AsyncStream<Post>.Continuation
    private let trace = TraceContext(traceHigh: 1, traceLow: 0xabc, span: 0xdef, parent: 0x99, isSampled: true)

    init() { (self.posts, self.posted) = AsyncStream.makeStream(of: Post.self) }

    private func exporter(_ bench: TelemetryBench, status: Int = 200) -> SpanExporter {
        SpanExporter(
            bench.metrics, resource: [("service.name", "waypoint.shop")], version: "1.2.3",
            log: bench.log.logger("trace"), delay: .zero
        ) { [posted] address, body in
            posted.yield((address, body))
            return status
        }
    }

    @Test("are sent to the collector as OTLP in JSON")
    func otlp() async throws {
        let bench = TelemetryBench()
        let exporter = self.exporter(bench)
        exporter.send(to: "http://collector:4318/v1/traces")
        bench.telemetry.publish(isAccessLogEnabled: false, spans: exporter.queue)
        bench.telemetry.finished(report { $0.trace = self.trace })
        await exporter.flush()
        var iterator = self.posts.makeAsyncIterator()
        let post = try #require(await iterator.next())
        #expect(post.address == "http://collector:4318/v1/traces")
        let root = try #require(try JSONSerialization.jsonObject(with: Data(post.body)) as? [String: Any])
        let resource = try #require((root["resourceSpans"] as? [[String: Any]])?.first)
        let scope = try #require((resource["scopeSpans"] as? [[String: Any]])?.first)
        let span = try #require((scope["spans"] as? [[String: Any]])?.first)
        #expect(span["traceId"] as? String == "00000000000000010000000000000abc")
        #expect(span["spanId"] as? String == "0000000000000def")
        #expect(span["parentSpanId"] as? String == "0000000000000099")
        #expect(span["name"] as? String == "web.shop.svc.cluster.local:80/*")
        #expect(span["kind"] as? Int == 2)
        let start = try #require(UInt64(span["startTimeUnixNano"] as? String ?? ""))
        let end = try #require(UInt64(span["endTimeUnixNano"] as? String ?? ""))
        #expect(end - start == 7_400_000)
        #expect(span["status"] == nil)
        var values: [String: String] = [:]
        for attribute in span["attributes"] as? [[String: Any]] ?? [] {
            let value = attribute["value"] as? [String: String]
            values[attribute["key"] as? String ?? ""] = value?["stringValue"] ?? value?["intValue"]
        }
        #expect(values["http.response.status_code"] == "200")
        #expect(values["url.path"] == "/cart")
        #expect(values["url.query"] == "id=1")
        #expect(values["guid:x-request-id"] == "8f6f")
        #expect(values["istio.source_workload"] == "alice")
        #expect(bench.samples("martlet_spans_total").contains("martlet_spans_total{outcome=\"exported\"} 1"))
    }

    @Test("are made of sampled exchanges only, and failures are marked")
    func sampled() async throws {
        let bench = TelemetryBench()
        let exporter = self.exporter(bench)
        exporter.send(to: "http://collector:4318/v1/traces")
        bench.telemetry.publish(isAccessLogEnabled: false, spans: exporter.queue)
        bench.telemetry.finished(report())
        var quiet = self.trace
        quiet.isSampled = false
        bench.telemetry.finished(report { $0.trace = quiet })
        #expect(exporter.queue.count == 0)
        bench.telemetry.finished(
            report {
                $0.trace = self.trace
                $0.response = nil
            })
        await exporter.flush()
        var iterator = self.posts.makeAsyncIterator()
        let post = try #require(await iterator.next())
        #expect(String(decoding: post.body, as: UTF8.self).contains("\"status\":{\"code\":2}"))
    }

    @Test("beyond the queue's bound are dropped and counted")
    func bounded() {
        let bench = TelemetryBench()
        let exporter = self.exporter(bench)
        bench.telemetry.publish(isAccessLogEnabled: false, spans: exporter.queue)
        for _ in 0..<SpanQueue.spansMax + 3 { bench.telemetry.finished(report { $0.trace = self.trace }) }
        #expect(exporter.queue.count == SpanQueue.spansMax)
        #expect(bench.samples("martlet_spans_total").contains("martlet_spans_total{outcome=\"dropped\"} 3"))
    }

    @Test("that a collector refuses are lost, counted and reported")
    func refused() async {
        let bench = TelemetryBench()
        let exporter = self.exporter(bench, status: 503)
        exporter.send(to: "http://collector:4318/v1/traces")
        bench.telemetry.publish(isAccessLogEnabled: false, spans: exporter.queue)
        bench.telemetry.finished(report { $0.trace = self.trace })
        await exporter.flush()
        await bench.log.flush()
        #expect(bench.samples("martlet_spans_total").contains("martlet_spans_total{outcome=\"failed\"} 1"))
        #expect(bench.memory.text.contains("spans were not delivered"))
        #expect(bench.memory.text.contains("answered 503"))
    }

    @Test("go out by themselves while the process runs")
    func running() async {
        let bench = TelemetryBench()
        let exporter = self.exporter(bench)
        exporter.send(to: "http://collector:4318/v1/traces")
        bench.telemetry.publish(isAccessLogEnabled: false, spans: exporter.queue)
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await exporter.run() }
            for _ in 0..<3 {
                bench.telemetry.finished(report { $0.trace = self.trace })
                var iterator = self.posts.makeAsyncIterator()
                _ = await iterator.next()
            }
            tasks.cancelAll()
        }
    }
}
