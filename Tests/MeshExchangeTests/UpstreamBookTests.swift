import MeshExchange
import MeshModel
import Testing

@Suite("What is known of endpoints")
struct UpstreamBookTests {
    static let second: UInt64 = 1_000_000_000
    static let millisecond: UInt64 = 1_000_000

    static func key(_ port: UInt16) -> UpstreamKey {
        UpstreamKey(address: IPEndpoint(address: IPAddress(v4: 0x0A00_0001), port: port), peer: nil, expected: [])
    }
    let fast = key(1), slow = key(2), fresh = key(3)

    /// One request and its answer.
    func ask(_ book: UpstreamBook, _ key: UpstreamKey, takes milliseconds: UInt64, at now: UInt64) {
        book.began(key)
        book.answered(key, after: milliseconds * Self.millisecond, at: now)
        book.ended(key)
    }

    @Test("who was slow once is asked again after a while, and then counts by what it does now")
    func forgets() {
        let book = UpstreamBook(seed: 1)
        var now = Self.second
        self.ask(book, self.slow, takes: 500, at: now)
        var asked: [UpstreamKey] = []
        // Ten requests a second, for ten seconds.
        for _ in 0..<100 {
            now += Self.second / 10
            let chosen = book.load(self.fast, at: now) <= book.load(self.slow, at: now) ? self.fast : self.slow
            asked.append(chosen)
            self.ask(book, chosen, takes: 5, at: now)
        }
        let first = asked.firstIndex(of: self.slow)
        #expect(first.map { (50...80).contains($0) } == true, "500 ms are 5 ms after 6.6 half-lives of a second")
        let later = asked.dropFirst((first ?? 0) + 1)
        #expect(later.count { $0 == self.slow } * 3 > later.count, "as fast as the other, it gets as much")
    }

    @Test("of whom nothing is known gets one request, and no more before that is answered")
    func unknown() {
        let book = UpstreamBook(seed: 1)
        self.ask(book, self.fast, takes: 5, at: 0)
        #expect(book.load(self.fresh, at: 0) < book.load(self.fast, at: 0))
        book.began(self.fresh)
        #expect(book.load(self.fresh, at: 0) > book.load(self.fast, at: 0))
        book.answered(self.fresh, after: Self.millisecond, at: 0)
        book.ended(self.fresh)
        #expect(book.load(self.fresh, at: 0) < book.load(self.fast, at: 0))
    }

    @Test("so does who was not asked for very long")
    func longAgo() {
        let book = UpstreamBook(seed: 1)
        self.ask(book, self.slow, takes: 500, at: 0)
        let now = 1000 * Self.second
        self.ask(book, self.fast, takes: 5, at: now)
        #expect(book.load(self.slow, at: now) < book.load(self.fast, at: now))
        book.began(self.slow)
        #expect(book.load(self.slow, at: now) > book.load(self.fast, at: now))
    }

    @Test("each request under way makes an endpoint dearer")
    func active() {
        let book = UpstreamBook(seed: 1)
        self.ask(book, self.fast, takes: 5, at: 0)
        self.ask(book, self.slow, takes: 9, at: 0)
        #expect(book.load(self.fast, at: 0) < book.load(self.slow, at: 0))
        book.began(self.fast)
        #expect(book.load(self.fast, at: 0) > book.load(self.slow, at: 0))
    }
}
