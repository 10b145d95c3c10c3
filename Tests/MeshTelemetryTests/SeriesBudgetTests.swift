import MeshTelemetry
import Synchronization
import Testing

/// A clock that stands until it is moved.
private final class Clock: Sendable {
    private let time = Mutex(ContinuousClock.now)
    var now: ContinuousClock.Instant { self.time.withLock { $0 } }
    func move(_ duration: Duration) { self.time.withLock { $0 += duration } }
}

@Suite("The budget of series")
struct SeriesBudgetTests {
    private let registry = MetricsRegistry()
    private let clock = Clock()
    private let budget: SeriesBudget
    private let opened, closed: CounterFamily

    init() {
        let clock = self.clock
        self.budget = SeriesBudget(seriesMax: 4) { clock.now }
        self.opened = self.registry.counter("opened_total", "Opened", labels: ["from", "to"], budget: self.budget)
        self.closed = self.registry.counter("closed_total", "Closed", labels: ["from", "to"], budget: self.budget)
        self.registry.show(self.budget)
    }

    /// Samples by name and labels.
    private var samples: [String: Int] {
        Dictionary(
            uniqueKeysWithValues: self.registry.openMetrics().split(separator: "\n").filter { !$0.hasPrefix("#") }
                .map { line in
                    let words = line.split(separator: " ")
                    return (String(words[0]), Int(words[1]) ?? -1)
                })
    }

    private func count(_ who: String) { self.opened.with([who, "web"]).add() }

    /// A scrape notes what has changed; after this long nothing has.
    private func rest() {
        _ = self.registry.openMetrics()
        self.clock.move(SeriesBudget.idleAfter)
    }

    @Test("is shared by the families that have it; what finds no room is one series of its family")
    func overflow() {
        for who in ["a", "b", "c"] { self.count(who) }
        self.closed.with(["a", "web"]).add()
        #expect(!self.budget.hasRoom)
        for who in ["d", "e", "d", "a"] { self.count(who) }
        self.closed.with(["b", "web"]).add(5)
        let samples = self.samples
        #expect(samples[#"opened_total{from="a",to="web"}"#] == 2)
        #expect(samples[#"opened_total{from="overflow",to="overflow"}"#] == 3)
        #expect(samples[#"closed_total{from="overflow",to="overflow"}"#] == 5)
        #expect(!samples.keys.contains { $0.contains(#"from="d""#) })
        #expect(samples["martlet_metrics_series"] == 4)
        #expect(samples["martlet_metrics_series_max"] == 4)
        #expect(samples["martlet_metrics_series_overflowed_total"] == 4)
        #expect(samples["martlet_metrics_series_evicted_total"] == 0)
        #expect(self.opened.find(["a", "web"]).isOverflow == false)
        #expect(self.opened.find(["f", "web"]).isOverflow)
    }

    @Test("idle series make room, and those that are held or have just changed do not")
    func eviction() {
        let held = self.opened.with(["held", "web"])
        for who in ["idle", "busy", "quiet"] { self.count(who) }
        self.rest()
        self.count("busy")
        self.count("new")
        var samples = self.samples
        #expect(
            samples.keys.filter { $0.hasPrefix("opened_total") }.sorted() == [
                #"opened_total{from="busy",to="web"}"#, #"opened_total{from="held",to="web"}"#,
                #"opened_total{from="new",to="web"}"#,
            ])
        #expect(samples["martlet_metrics_series_evicted_total"] == 2)
        #expect(samples["martlet_metrics_series"] == 3)
        // Who held it counts on where it was.
        held.add(7)
        #expect(self.samples[#"opened_total{from="held",to="web"}"#] == 7)
        // One that comes back starts anew.
        self.count("idle")
        samples = self.samples
        #expect(samples[#"opened_total{from="idle",to="web"}"#] == 1)
    }

    @Test("nothing is forgotten while half of the room is free")
    func plenty() {
        self.count("a")
        self.count("b")
        for _ in 0..<5 { self.rest() }
        #expect(self.samples[#"opened_total{from="a",to="web"}"#] == 1)
        #expect(self.samples["martlet_metrics_series_evicted_total"] == 0)
    }

    @Test("the overflow series never starts again, and no counter in use goes back")
    func monotonic() {
        var before: [String: Int] = [:]
        let held = self.opened.with(["held", "web"])
        for round in 0..<200 {
            held.add()
            for who in 0..<7 { self.count("\(round % 13)-\(who)") }
            if round % 3 == 0 { self.rest() }
            let now = self.samples
            for name in now.keys where name.contains("held") || name.contains("overflow") || name.contains("evicted") {
                #expect(now[name]! >= before[name] ?? 0, "\(name) in round \(round)")
            }
            for name in before.keys where name.contains(#""overflow""#) { #expect(now[name] != nil) }
            #expect(now["martlet_metrics_series"]! <= 4)
            before = now
        }
        #expect(before[#"opened_total{from="held",to="web"}"#] == 200)
        #expect(before["martlet_metrics_series_evicted_total"]! > 0)
        #expect(before["martlet_metrics_series_overflowed_total"]! > 0)
    }

    @Test("all are looked through at most once in a while, also when every connection finds no room")
    func rare() {
        final class Holder: SeriesHolder {
            let asked = Mutex(0)
            func releaseIdle() { self.asked.withLock { $0 += 1 } }
        }
        let holder = Holder()
        self.budget.add(holder: holder)
        for index in 0..<1000 { self.count("\(index)") }
        #expect(holder.asked.withLock { $0 } == 1)
        self.clock.move(.seconds(11))
        for index in 0..<1000 { self.count("\(index)") }
        #expect(holder.asked.withLock { $0 } == 2)
    }

    @Test("a histogram takes as many places as it has lines")
    func histogram() {
        let took = self.registry.histogram(
            "took_seconds", "Took", labels: ["who"], bounds: [1], budget: self.budget)
        took.with(["a"]).record(0.5)
        #expect(self.budget.usedCount == 4)
        took.with(["b"]).record(2)
        #expect(self.samples[#"took_seconds_count{who="overflow"}"#] == 1)
    }

    @Test("loops that find the same new combination at once count into one series")
    func concurrent() async {
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask { for index in 0..<500 { self.opened.with(["\(index % 3)", "web"]).add() } }
            }
        }
        #expect(self.budget.usedCount == 3)
        #expect(self.samples.filter { $0.key.hasPrefix("opened_total") }.values.reduce(0, +) == 4000)
    }
}
