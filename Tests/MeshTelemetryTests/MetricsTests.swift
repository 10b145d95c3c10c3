import MeshTelemetry
import Testing

@Suite("Metrics")
struct MetricsTests {
    @Test("are OpenMetrics text, in the order of registration, with sorted series")
    func text() {
        let registry = MetricsRegistry()
        let requests = registry.counter("requests_total", "Requests", labels: ["code", "path"])
        requests.with(["500", "/"]).add()
        requests.with(["200", "/"]).add(2)
        requests.with(["200", "/"]).add()
        let open = registry.gauge("open", "Open things")
        open.with().set(5)
        open.with().add(-7)
        registry.observedGauge("seen", "Seen") { 3 }
        registry.observedGauge("unseen", "Not to be seen") { nil }
        _ = registry.counter("unused_total", "Never used")
        #expect(
            registry.openMetrics() == """
                # HELP requests Requests.
                # TYPE requests counter
                requests_total{code="200",path="/"} 3
                requests_total{code="500",path="/"} 1
                # HELP open Open things.
                # TYPE open gauge
                open -2
                # HELP seen Seen.
                # TYPE seen gauge
                seen 3
                # EOF

                """)
    }

    @Test("a counter may go without _total where the reference's does")
    func unsuffixed() {
        let registry = MetricsRegistry()
        registry.unsuffixedCounter("pushes", "Pushes", labels: ["type"]).with(["wds"]).add()
        #expect(
            registry.openMetrics() == """
                # HELP pushes Pushes.
                # TYPE pushes unknown
                pushes{type="wds"} 1
                # EOF

                """)
    }

    @Test("a histogram counts cumulatively, its bounds included")
    func histogram() {
        let registry = MetricsRegistry()
        let seconds = registry.histogram("took_seconds", "Time", labels: ["kind"], bounds: [0.1, 1])
        for value in [0.05, 0.1, 0.5, 2.0] { seconds.with(["a"]).record(value) }
        #expect(
            registry.openMetrics() == """
                # HELP took_seconds Time.
                # TYPE took_seconds histogram
                took_seconds_sum{kind="a"} 2.65
                took_seconds_count{kind="a"} 4
                took_seconds_bucket{kind="a",le="0.1"} 2
                took_seconds_bucket{kind="a",le="1.0"} 3
                took_seconds_bucket{kind="a",le="+Inf"} 4
                # EOF

                """)
    }

    @Test("escapes label values")
    func escaping() {
        let registry = MetricsRegistry()
        registry.counter("c_total", "C", labels: ["l"]).with(["a\"b\\c\nd"]).add()
        #expect(registry.openMetrics().contains(#"c_total{l="a\"b\\c\nd"} 1"#))
    }

    @Test("trailing labels may be left out")
    func shortened() {
        let registry = MetricsRegistry()
        registry.counter("c_total", "C", labels: ["a", "b"]).with(["x"]).add()
        #expect(registry.openMetrics().contains(#"c_total{a="x"} 1"#))
    }

    @Test("series beyond the bound share one that says so")
    func bounded() {
        let registry = MetricsRegistry(seriesMax: 2)
        let family = registry.counter("c_total", "C", labels: ["who"])
        for who in ["a", "b", "c", "d", "a"] { family.with([who]).add() }
        let text = registry.openMetrics()
        #expect(text.contains(#"c_total{who="a"} 2"#))
        #expect(text.contains(#"c_total{who="b"} 1"#))
        #expect(text.contains(#"c_total{who="overflow"} 2"#))
        #expect(!text.contains(#"who="c""#))
    }

    @Test("counting from many tasks loses nothing")
    func concurrent() async {
        let counter = Counter()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 { group.addTask { for _ in 0..<1000 { counter.add() } } }
        }
        #expect(counter.value == 8000)
    }

    @Test("tell about the process")
    func process() {
        let registry = MetricsRegistry()
        registry.addProcessMetrics(component: "ztunnel", tag: "1.2.3")
        let text = registry.openMetrics()
        #expect(text.contains(#"istio_build{component="ztunnel",tag="1.2.3"} 1"#))
        let open = text.split(separator: "\n").first { $0.hasPrefix("process_open_fds ") }
        #expect(open.flatMap { Int($0.dropFirst("process_open_fds ".count)) } ?? 0 > 2)
        #expect(text.contains("process_max_fds "))
    }
}
