import MeshIdentity
import MeshModel
import MeshTunnel
import Testing

@Suite("The pool of tunnels")
struct TunnelPoolTests {
    private func key(_ port: UInt16, source: String = "a", expected: [String] = ["b"], pod: String = "p") -> TunnelKey {
        func identity(_ name: String) -> WorkloadIdentity {
            WorkloadIdentity(trustDomain: "cluster.local", namespace: "default", serviceAccount: name)
        }
        return TunnelKey(
            podUID: pod, source: identity(source), expected: expected.map(identity),
            peer: IPEndpoint(address: IPAddress(v4: 1), port: port))
    }

    @Test("fills a tunnel to its limit, then opens another")
    func fills() {
        var pool = TunnelPool(streamsMax: 2)
        #expect(pool.place(self.key(1)) == .open(1))
        #expect(pool.place(self.key(1)) == .use(1))
        #expect(pool.place(self.key(1)) == .open(2))
        pool.release(1)
        #expect(pool.place(self.key(1)) == .use(1))
    }

    @Test("whatever differs in the key is never shared")
    func keys() {
        var pool = TunnelPool(streamsMax: 100)
        #expect(pool.place(self.key(1)) == .open(1))
        #expect(pool.place(self.key(2)) == .open(2))
        #expect(pool.place(self.key(1, source: "c")) == .open(3))
        #expect(pool.place(self.key(1, expected: ["b", "d"])) == .open(4))
        #expect(pool.place(self.key(1, pod: "q")) == .open(5))
    }

    @Test("the peer's limit lowers ours and never raises it")
    func limits() {
        var pool = TunnelPool(streamsMax: 3)
        #expect(pool.place(self.key(1)) == .open(1))
        pool.limit(1, to: 1)
        #expect(pool.place(self.key(1)) == .open(2))
        pool.limit(2, to: 1_000)
        #expect(pool.place(self.key(1)) == .use(2))
        #expect(pool.place(self.key(1)) == .use(2))
        #expect(pool.place(self.key(1)) == .open(3))
    }

    @Test("a forgotten tunnel takes nothing more, and late releases do not matter")
    func forgotten() {
        var pool = TunnelPool(streamsMax: 3)
        #expect(pool.place(self.key(1)) == .open(1))
        pool.forget(1)
        pool.release(1)
        #expect(pool.tunnelCount == 0)
        #expect(pool.place(self.key(1)) == .open(2))
    }

    @Test("the number of tunnels of a key is bounded")
    func bounded() {
        var pool = TunnelPool(streamsMax: 1)
        for _ in 0..<TunnelPool.tunnelsPerKeyMax { _ = pool.place(self.key(1)) }
        #expect(pool.place(self.key(1)) == .full)
        #expect(pool.place(self.key(2)) != .full)
    }

    @Test("the last release tells that the tunnel is idle")
    func idle() {
        var pool = TunnelPool(streamsMax: 3)
        _ = pool.place(self.key(1))
        _ = pool.place(self.key(1))
        #expect(pool.release(1) == false)
        #expect(pool.release(1) == true)
    }
}

@Suite("The two ends of a relay")
struct RelayEndsTests {
    @Test("the application first, then the peer")
    func appFirst() {
        var ends = RelayEnds()
        #expect(ends.appEnded() == .none)
        #expect(ends.peerEnded(isDelivered: true) == .finishAppAndClose)
    }

    @Test("the peer first, then the application")
    func peerFirst() {
        var ends = RelayEnds()
        #expect(ends.peerEnded(isDelivered: true) == .finishApp)
        #expect(ends.appEnded() == .close)
    }

    @Test("the application is told only after its last byte")
    func waits() {
        var ends = RelayEnds()
        #expect(ends.peerEnded(isDelivered: false) == .none)
        #expect(ends.appEnded() == .none)
        #expect(ends.delivered() == .finishAppAndClose)
    }

    @Test("bytes delivered while the peer goes on end nothing; a second end changes nothing")
    func nothing() {
        var ends = RelayEnds()
        #expect(ends.delivered() == .none)
        #expect(ends.peerEnded(isDelivered: true) == .finishApp)
        #expect(ends.peerEnded(isDelivered: true) == .none)
        #expect(ends.delivered() == .none)
    }
}
