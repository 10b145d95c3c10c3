import MeshCollections
import Testing

@Suite("Derived collections")
struct GraphTests {
    /// Counts how often a function ran, by key.
    final class Runs {
        var count: [String: Int] = [:]
        func ran(_ key: String) { self.count[key, default: 0] += 1 }
    }

    @Test("follow their source, and an element that comes out equal is no change")
    func mapping() {
        let graph = Graph()
        let numbers = graph.input(Int.self)
        let parity = graph.map(numbers) { _, number, _ in number % 2 == 0 ? "even" : "odd" }
        var heard: [String] = []
        parity.observe { heard += $0.map { "\($0.key):\($0.new ?? "gone")" } }
        numbers.set("a", 1)
        numbers.set("b", 2)
        graph.settle()
        #expect(heard == ["a:odd", "b:even"])
        heard = []
        numbers.set("a", 3)
        graph.settle()
        #expect(heard.isEmpty)
        numbers.remove("b")
        graph.settle()
        #expect(heard == ["b:gone"] && parity["b"] == nil)
    }

    @Test("recompute exactly what fetched the changed key, also when it was missing before")
    func fetching() {
        let graph = Graph()
        let people = graph.input(String.self)  // name → city
        let cities = graph.input(Int.self)
        let runs = Runs()
        let sizes = graph.map(people) { key, city, fetch in
            runs.ran(key)
            return fetch.get(cities, city) ?? -1
        }
        people.set("ann", "paris")
        people.set("bob", "rome")
        graph.settle()
        #expect(sizes["ann"] == -1)
        runs.count = [:]
        cities.set("paris", 2)
        graph.settle()
        #expect(sizes["ann"] == 2 && sizes["bob"] == -1)
        #expect(runs.count == ["ann": 1])
        // Ann moves: Paris is none of her business any more.
        people.set("ann", "rome")
        graph.settle()
        runs.count = [:]
        cities.set("paris", 3)
        graph.settle()
        #expect(runs.count.isEmpty)
    }

    @Test("follow an index to its old and its new key")
    func indexing() {
        let graph = Graph()
        let pods = graph.input(String.self)  // pod → app
        let byApp = pods.index { _, app in [app] }
        let services = graph.input(String.self)  // service → app
        let members = graph.map(services) { _, app, fetch in fetch.get(byApp, app).map(\.key) }
        services.set("web", "web")
        services.set("db", "db")
        pods.set("p1", "web")
        graph.settle()
        #expect(members["web"] == ["p1"] && members["db"] == [])
        pods.set("p1", "db")
        graph.settle()
        #expect(members["web"] == [] && members["db"] == ["p1"])
        pods.remove("p1")
        graph.settle()
        #expect(members["db"] == [])
    }

    @Test("chain: a change runs through in one round, and is heard once")
    func chains() {
        let graph = Graph()
        let input = graph.input(Int.self)
        let doubled = graph.map(input) { _, value, _ in value * 2 }
        let sum = graph.value { fetch in fetch.all(doubled).reduce(0) { $0 + $1.value } }
        var heard: [Int?] = []
        sum.observe { heard += $0.map(\.new) }
        input.set("a", 1)
        input.set("b", 2)
        graph.settle()
        #expect(heard == [6])
        // There and back within one round is no change at all.
        input.set("a", 5)
        input.set("a", 1)
        graph.settle()
        #expect(heard == [6])
    }

    @Test("with many outputs drop those that are no longer given; the lesser source wins a shared key")
    func manyOutputs() {
        let graph = Graph()
        let lists = graph.input([String].self)
        let words = graph.flatMap(lists) { key, list, _ in list.map { ($0, key) } }
        lists.set("2", ["x", "y"])
        graph.settle()
        #expect(words.all == ["x": "2", "y": "2"])
        lists.set("1", ["y"])
        graph.settle()
        #expect(words.all == ["x": "2", "y": "1"])
        lists.remove("1")
        lists.set("2", ["y"])
        graph.settle()
        #expect(words.all == ["y": "2"])
    }

    @Test("joined, the earliest collection wins and the others stand behind it")
    func joining() {
        let graph = Graph()
        let (first, second) = (graph.input(String.self), graph.input(String.self))
        let joined = graph.join([first, second])
        second.set("k", "second")
        graph.settle()
        #expect(joined["k"] == "second")
        first.set("k", "first")
        graph.settle()
        #expect(joined["k"] == "first")
        first.remove("k")
        graph.settle()
        #expect(joined["k"] == "second")
    }

    @Test("of several sources that give a key the least wins; when it stops, the next one's value stands there")
    func conflicts() {
        let graph = Graph()
        let claims = graph.input(String.self)  // who → what
        let owners = graph.flatMap(claims) { key, thing, _ in [(thing, key)] }
        claims.set("c", "thing")
        graph.settle()
        claims.set("a", "thing")
        claims.set("b", "thing")
        graph.settle()
        #expect(owners["thing"] == "a")
        claims.set("b", "other")
        claims.remove("a")
        graph.settle()
        #expect(owners["thing"] == "c" && owners["other"] == "b")
        claims.remove("c")
        graph.settle()
        #expect(owners["thing"] == nil && owners.count == 1)
        // Came back the same in one round: no change.
        var heard = 0
        owners.observe { heard += $0.count }
        claims.remove("b")
        claims.set("b", "other")
        graph.settle()
        #expect(heard == 0)
    }

    @Test("what an element no longer looks at does not recompute it, also when others look at it")
    func forgetting() {
        let graph = Graph()
        let people = graph.input(String.self)
        let cities = graph.input(Int.self)
        let runs = Runs()
        _ = graph.map(people) { key, city, fetch in
            runs.ran(key)
            return fetch.get(cities, city) ?? -1
        }
        for name in ["a", "b", "c"] { people.set(name, "x") }
        graph.settle()
        people.set("a", "y")
        people.remove("b")
        graph.settle()
        runs.count = [:]
        cities.set("x", 1)
        graph.settle()
        #expect(runs.count == ["c": 1])
        cities.set("y", 2)
        people.set("d", "x")
        graph.settle()
        #expect(runs.count == ["a": 1, "c": 1, "d": 1])
    }
}
