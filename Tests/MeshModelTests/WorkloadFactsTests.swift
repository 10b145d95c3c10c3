import MeshModel
import Testing

@Suite("Facts that workloads share")
struct WorkloadFactsTests {
    @Test("a change to one workload is nobody else's")
    func changed() {
        var first = Workload(uid: "a")
        first.namespace = "shop"
        first.node = "n1"
        var second = first
        second.namespace = "lab"
        second.locality.zone = "z"
        #expect(first.namespace == "shop")
        #expect(first.locality.zone == "")
        #expect(second.namespace == "lab")
        #expect(second.node == "n1")
        #expect(Workload(uid: "b").namespace == "")
        #expect(Workload(uid: "b").node == "")
    }

    @Test("equal facts make equal workloads, whether they are shared or not")
    func equal() {
        func make(_ account: String) -> Workload {
            var workload = Workload(uid: "a")
            workload.serviceAccount = account
            workload.node = "n1"
            return workload
        }
        #expect(make("one") == make("one"))
        #expect(make("one").hashValue == make("one").hashValue)
        #expect(make("one") != make("two"))
        var shared = make("one")
        shared.common = make("two").common
        #expect(shared == make("two"))
    }

    @Test("a pool gives equal facts the same object")
    func pool() {
        var pool = FactsPool()
        let shared = ["one", "two", "one"].map { account in
            var workload = Workload(uid: "a")
            workload.serviceAccount = account
            workload.node = "n1"
            let before = workload
            pool.share(&workload)
            #expect(workload == before)
            return workload
        }
        #expect(shared[0].common === shared[2].common)
        #expect(shared[0].common !== shared[1].common)
        #expect(shared[0].site === shared[1].site)
    }
}
