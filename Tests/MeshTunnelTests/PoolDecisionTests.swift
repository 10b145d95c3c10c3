import MeshModel
import MeshTunnel
import Testing

/// The pool's cases of the acceptance list, without sockets.
@Suite("Pool cases P1 to P7, decided")
struct PoolDecisionTests {
    private func key(_ number: UInt32) -> TunnelKey {
        TunnelKey(
            podUID: "p", source: TwoPods.clientIdentity, expected: [TwoPods.serverIdentity],
            peer: IPEndpoint(address: IPAddress(v4: number), port: 15008))
    }

    /// The names of the tunnels that `count` streams were given; opened ones are counted.
    private func place(_ pool: inout TunnelPool, _ count: Int, _ number: UInt32 = 1) -> (ids: [UInt64], opened: Int) {
        var result: (ids: [UInt64], opened: Int) = ([], 0)
        for _ in 0..<count {
            switch pool.place(self.key(number)) {
            case .use(let id): result.ids.append(id)
            case .open(let id):
                result.ids.append(id)
                result.opened += 1
            case .full: Issue.record("the pool is full")
            }
        }
        return result
    }

    @Test("P1 limit 3: two at once, later two more: one tunnel in all")
    func p1() {
        var pool = TunnelPool(streamsMax: 3)
        let first = self.place(&pool, 2)
        for id in first.ids { pool.release(id) }
        let second = self.place(&pool, 2)
        #expect(first.opened == 1 && second.opened == 0 && pool.tunnelCount == 1)
    }

    @Test("P2 different keys: one tunnel for each")
    func p2() {
        var pool = TunnelPool(streamsMax: 100)
        for number in 1...5 as ClosedRange<UInt32> { #expect(self.place(&pool, 1, number).opened == 1) }
        #expect(pool.tunnelCount == 5)
    }

    @Test("P3 limit 2: four at once open two tunnels without waiting for one another; five later use both and one more")
    func p3() {
        var pool = TunnelPool(streamsMax: 2)
        let four = self.place(&pool, 4)
        #expect(four.opened == 2)
        for id in four.ids { pool.release(id) }
        // The reference opens three: there a tunnel that was full once never returns.
        #expect(self.place(&pool, 5).opened == 1)
        #expect(pool.tunnelCount == 3)
    }

    @Test("P4 after GOAWAY the next stream goes to a new tunnel")
    func p4() {
        var pool = TunnelPool(streamsMax: 100)
        let first = self.place(&pool, 1)
        pool.forget(first.ids[0])
        let second = self.place(&pool, 1)
        #expect(second.opened == 1 && second.ids != first.ids)
    }

    @Test("P5 limit 1: two at once are two tunnels, used again one after the other")
    func p5() {
        var pool = TunnelPool(streamsMax: 1)
        let two = self.place(&pool, 2)
        #expect(two.opened == 2)
        pool.release(two.ids[1])
        #expect(self.place(&pool, 1).ids == [two.ids[1]])
    }

    @Test("P6 limit 101: a hundred at once, one tunnel")
    func p6() {
        var pool = TunnelPool(streamsMax: 101)
        #expect(self.place(&pool, 100).opened == 1)
    }

    @Test("P7 limit 100: 300 streams of three keys, three tunnels")
    func p7() {
        var pool = TunnelPool(streamsMax: 100)
        var opened = 0
        for i in 0..<300 as Range<UInt32> { opened += self.place(&pool, 1, i % 3).opened }
        #expect(opened == 3)
    }

    @Test("what one tunnel learned of its peer's limit holds for the next: no stream is sent to be refused")
    func learned() {
        var pool = TunnelPool(streamsMax: 100)
        let first = self.place(&pool, 1)
        pool.limit(first.ids[0], to: 2)
        let more = self.place(&pool, 5)
        #expect(more.opened == 2)
        pool.limit(more.ids[4], to: 50)
        #expect(self.place(&pool, 40).opened == 0, "the newest answer counts")
    }

    @Test("a peer that takes no streams is asked again with the next tunnel, not for ever")
    func zero() {
        var pool = TunnelPool(streamsMax: 100)
        let first = self.place(&pool, 1)
        pool.limit(first.ids[0], to: 0)
        pool.release(first.ids[0])
        #expect(self.place(&pool, 2).opened == 2)
    }
}
