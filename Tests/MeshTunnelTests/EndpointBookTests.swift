import MeshModel
import MeshTunnel
import Testing

@Suite("The book of endpoints")
struct EndpointBookTests {
    private final class Clock { var now: UInt64 = 1_000_000_000 }
    private let clock = Clock()
    private let book: EndpointBook
    private let endpoint = IPAddress("10.1.0.2")!
    private let second: UInt64 = 1_000_000_000

    init() {
        let clock = self.clock
        self.book = EndpointBook { clock.now }
    }

    private func fail(_ times: Int) -> [Duration?] {
        (0..<times).map { _ in
            self.clock.now += 1
            return self.book.failed(self.endpoint)
        }
    }

    @Test("counts connections, and forgets an endpoint that has none")
    func active() {
        self.book.began(self.endpoint)
        self.book.began(self.endpoint)
        #expect(self.book.active(self.endpoint) == 2)
        self.book.ended(self.endpoint)
        self.book.ended(self.endpoint)
        #expect(self.book.active(self.endpoint) == 0 && self.book.count == 0)
        self.book.ended(self.endpoint)
        #expect(self.book.count == 0)
    }

    @Test("the third failure in a row ejects for 5 s; a success in between starts anew")
    func third() {
        #expect(self.fail(2) == [nil, nil])
        self.book.succeeded(self.endpoint)
        #expect(self.fail(3) == [nil, nil, .seconds(5)])
        #expect(self.book.isEjected(self.endpoint))
        self.clock.now += 5 * self.second
        #expect(!self.book.isEjected(self.endpoint))
    }

    @Test("one failure after the time doubles it, to five minutes at most; a success clears all")
    func backoff() {
        var times: [Int64] = []
        _ = self.fail(2)
        for _ in 0..<9 {
            times += self.fail(1).map { $0?.components.seconds ?? -1 }
            self.clock.now += 301 * self.second
        }
        #expect(times == [5, 10, 20, 40, 80, 160, 300, 300, 300])
        self.book.succeeded(self.endpoint)
        #expect(self.book.count == 0)
        #expect(self.fail(3) == [nil, nil, .seconds(5)])
    }

    @Test("failures while ejected change nothing, and many in one round of the loop are one")
    func once() {
        self.clock.now += 1
        #expect((0..<10).map { _ in self.book.failed(self.endpoint) }.allSatisfy { $0 == nil })
        #expect(self.fail(2) == [nil, .seconds(5)])
        #expect(self.fail(5).allSatisfy { $0 == nil })
    }

    @Test("is bounded: endpoints beyond it count as well; old failures make room")
    func bound() {
        for index in 0..<UInt32(EndpointBook.endpointsMax) { self.book.failed(IPAddress(v4: index)) }
        #expect(self.book.count == EndpointBook.endpointsMax)
        self.book.began(self.endpoint)
        #expect(self.book.active(self.endpoint) == 0 && self.book.count == EndpointBook.endpointsMax)
        self.book.ended(self.endpoint)
        self.clock.now += 301 * self.second
        self.book.began(self.endpoint)
        #expect(self.book.active(self.endpoint) == 1 && self.book.count == 1)
    }
}
