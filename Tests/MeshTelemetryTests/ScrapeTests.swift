import Foundation
import MeshTelemetry
import MeshTestSupport
import NIOPosix
import Testing

@Suite("A scrape")
struct ScrapeTests {
    private let registry = MetricsRegistry()

    init() {
        let requests = self.registry.counter("requests_total", "Requests", labels: ["path"])
        for index in 0..<200 { requests.with(["/\(index)"]).add(UInt64(index)) }
        self.registry.gauge("open", "Open things").with().set(5)
        self.registry.gauge("active_proxy_count", "Proxies").with().set(2)
        self.registry.unsuffixedCounter("pushes", "Pushes").with().add()
        self.registry.histogram("took_seconds", "Time", bounds: [1]).with().record(0.5)
    }

    /// Asked by curl, which decodes what it is sent.
    private func get(_ headers: [String]) async throws -> (head: String, body: String) {
        let server = try await HTTPEndpoints.bind(
            [.init(host: "127.0.0.1", port: 0)], routes: EndpointRoute.metrics(self.registry),
            group: MultiThreadedEventLoopGroup.singleton)
        let port = server.ports[0]
        let output: Result<String, any Error>
        do {
            output = .success(
                try await offThread {
                    let curl = Process()
                    curl.executableURL = URL(fileURLWithPath: "/usr/bin/env")
                    curl.arguments =
                        ["curl", "-sS", "--max-time", "60", "--compressed", "-D", "-"]
                        + headers.flatMap { ["-H", $0] } + ["http://127.0.0.1:\(port)/metrics"]
                    let pipe = Pipe()
                    curl.standardOutput = pipe
                    try curl.run()
                    let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
                    curl.waitUntilExit()
                    #expect(curl.terminationStatus == 0)
                    return String(decoding: bytes, as: UTF8.self)
                })
        } catch {
            output = .failure(error)
        }
        await server.close()
        let text = try output.get()
        let end = try #require(text.firstRange(of: "\r\n\r\n"))
        return (String(text[..<end.lowerBound]).lowercased(), String(text[end.upperBound...]))
    }

    @Test("W10: compressed as the client asks, it is the same text", arguments: ["gzip", "deflate", "br, gzip;q=0.5"])
    func compressed(coding: String) async throws {
        let (head, body) = try await self.get(["accept-encoding: \(coding)"])
        #expect(head.contains("\r\ncontent-encoding: \(coding == "deflate" ? "deflate" : "gzip")"))
        #expect(body == self.registry.text(.prometheus))
        let length = head.firstRange(of: "content-length: ").map {
            Int(head[$0.upperBound...].prefix { $0.isNumber }) ?? 0
        }
        if let length { #expect(length < body.utf8.count / 2) }
    }

    @Test(
        "W10: who takes no coding that we speak gets the text as it is",
        arguments: ["identity", "br", "zstd", "gzip;q=0", "nonsense;;;=,", ""])
    func plain(coding: String) async throws {
        let (head, body) = try await self.get(["accept-encoding: \(coding)"])
        #expect(!head.contains("content-encoding"))
        #expect(body == self.registry.text(.prometheus))
    }

    @Test("as Prometheus asks, it is OpenMetrics, compressed")
    func prometheus() async throws {
        let (head, body) = try await self.get([
            "accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                + "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "accept-encoding: gzip",
        ])
        #expect(head.contains("content-type: application/openmetrics-text;charset=utf-8;version=1.0.0"))
        #expect(head.contains("content-encoding: gzip"))
        #expect(body == self.registry.openMetrics())
        #expect(body.hasSuffix("# EOF\n"))
    }

    @Test("both formats hold the same samples")
    func sameSamples() {
        func samples(_ format: MetricsFormat) -> [Substring] {
            self.registry.text(format).split(separator: "\n").filter { !$0.hasPrefix("#") }
        }
        #expect(samples(.openMetrics) == samples(.prometheus))
        #expect(samples(.openMetrics).count > 200)
    }

    @Test("in Prometheus' own format a counter's family has the name of its samples")
    func families() {
        let text = self.registry.text(.prometheus)
        #expect(text.contains("# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{"))
        #expect(self.registry.openMetrics().contains("# TYPE requests counter\nrequests_total{"))
        #expect(text.contains("# TYPE took_seconds histogram\n"))
        #expect(!text.contains("# EOF"))
    }

    @Test("a type that a name does not allow is not told")
    func untyped() {
        #expect(self.registry.text(.prometheus).contains("# TYPE active_proxy_count untyped\nactive_proxy_count 2\n"))
        #expect(self.registry.text(.prometheus).contains("# TYPE pushes untyped\npushes 1\n"))
        #expect(self.registry.openMetrics().contains("# TYPE pushes unknown\npushes 1\n"))
    }
}
