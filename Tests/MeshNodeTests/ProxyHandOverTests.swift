import MeshLinux
import MeshModel
import MeshNode
import MeshZDS
import Testing

@Suite("An enrolment whose proxy is gone")
struct LostProxyTests {
    private func enrolled() -> PodEnrolment {
        var enrolment = PodEnrolment(goal: .enrolled)
        enrolment.have(addresses: [IPAddress("10.1.0.1")!])
        while enrolment.next() != .rest { enrolment.finished(enrolment.next(), succeeded: true) }
        return enrolment
    }

    @Test("asks again, and says nothing to the cluster meanwhile: peers must not be sent around the mesh")
    func lost() {
        var enrolment = self.enrolled()
        enrolment.proxyLost()
        #expect(enrolment.next() == .askProxy)
        enrolment.finished(.askProxy, succeeded: false)
        #expect(enrolment.next() == .retryLater)
        #expect(enrolment.annotation == .enabled && enrolment.rules == .capturing)
        enrolment.proxyConnected()
        #expect(enrolment.next() == .askProxy)
        enrolment.finished(.askProxy, succeeded: true)
        #expect(enrolment.next() == .rest)
    }
}

/// The agent with two proxies at a time.
@Suite(
    "The node agent during a hand-over", .serialized, .timeLimit(.minutes(3)),
    .enabled(if: isRoot, "SKIPPED: needs root to make network namespaces"))
struct ProxyHandOverTests {
    @Test("a pod that came while a new proxy was there is served by the old one when the new one fails")
    func newProxyFails() async throws {
        let bench = try await Workbench()
        bench.cluster.set(.namespaces, nil, "shop", ["metadata", "labels"], to: [:])
        try await bench.withProxy { old in
            try await bench.withAgent { agent in
                try await eventually("the old proxy has its snapshot") { old.snapshotCount == 1 }
                try await bench.withProxy { new in
                    try await eventually("the new proxy has its snapshot") { new.snapshotCount == 1 }
                    bench.cluster.set(
                        .namespaces, nil, "shop", ["metadata", "labels"], to: ["istio.io/dataplane-mode": "ambient"])
                    try await eventually("enabled") { bench.annotation() == "enabled" }
                    try await eventually("both serve the pod") {
                        old[Workbench.podUID] != nil && new[Workbench.podUID] != nil
                    }
                }
                try await eventually("the new one is gone") {
                    await agent.metricsText().contains("ztunnel_connected 1\n")
                }
                #expect(old[Workbench.podUID] != nil)
                #expect(bench.annotation() == "enabled")
            }
        }
    }

    @Test("pending connections of a closing proxy move to the next one: the setting is made, kept, and put right")
    func migration() async throws {
        let bench = try await Workbench()
        let setting = "/proc/sys/net/ipv4/tcp_migrate_req"
        let pod = bench.topology.pod
        @Sendable func value() async throws -> String {
            try await pod.perform { try Files.readText(setting) }
        }
        #expect(try await value() == "0\n")
        try await bench.withProxy { _ in
            try await bench.withAgent { _ in
                try await eventually("enabled") { bench.annotation() == "enabled" }
                #expect(try await value() == "1\n")
                _ = try await pod.perform { try Files.writeSetting("0", to: setting) }
                try await eventually("put right") { try await value() == "1\n" }
            }
        }
    }
}
