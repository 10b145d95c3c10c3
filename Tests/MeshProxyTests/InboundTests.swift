import MeshDirectory
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshProxy
import MeshTunnel
import Synchronization
import Testing

@Suite("An inbound tunnel stream")
struct InboundTests {
    private var world: World {
        var world = World.withClient
        world.add(workload("server", "10.1.0.2"))
        return world
    }

    @Test("I1: to the pod's own address is dialled there")
    func own() { #expect(self.world.connect("10.1.0.2:8080") == .admitted("10.1.0.2:8080")) }

    @Test("I2, I3: by host name goes to the service's target port, or to the pod's own when it is named")
    func hostname() {
        var world = self.world
        world.add(service("web", "10.2.0.1"), service("named", "10.2.0.2", ports: [80: 0, 81: 0]))
        world.add(
            workload("server", "10.1.0.2") {
                $0.serves("web", [:])
                $0.serves("named", [80: 8080])
            })
        #expect(world.connect("web.ns1.svc.cluster.local:80") == .admitted("10.1.0.2:8080"))
        #expect(world.connect("named.ns1.svc.cluster.local:80") == .admitted("10.1.0.2:8080"))
        #expect(world.connect("named.ns1.svc.cluster.local:81").isRefused(503, "cannot resolve port"))
        #expect(world.connect("web.ns1.svc.cluster.local:82").isRefused(503, "cannot resolve port"))
        #expect(world.connect("other.ns1.svc.cluster.local:80").isRefused(503, "unknown hostname"))
    }

    /// A waypoint pod at 10.1.0.9 with the service `wp` at 10.2.0.9.
    private func waypoint(_ destination: GatewayAddress, _ change: (inout Workload) -> Void = { _ in }) -> World {
        var world = World.withClient
        world.add(
            service("wp", "10.2.0.9", ports: [15008: 15008]), service("web", "10.2.0.1") { $0.waypoint = destination })
        world.add(
            workload("waypoint", "10.1.0.9") {
                $0.serves("wp", [:])
                change(&$0)
            },
            workload("server", "10.1.0.2") { $0.waypoint = destination })
        return world
    }

    static let waypoints = [gateway("10.1.0.9"), gateway("10.2.0.9"), gateway(service: "wp")]

    @Test("I4: a waypoint takes streams for the workloads behind it", arguments: InboundTests.waypoints)
    func forWorkload(destination: GatewayAddress) {
        #expect(
            self.waypoint(destination).connect("10.1.0.2:8080", at: "waypoint", arrival: "10.1.0.9")
                == .admitted("10.1.0.9:8080"))
    }

    @Test("I5: and for the services behind it", arguments: InboundTests.waypoints)
    func forService(destination: GatewayAddress) {
        #expect(
            self.waypoint(destination).connect("10.2.0.1:80", at: "waypoint", arrival: "10.1.0.9")
                == .admitted("10.1.0.9:80"))
    }

    @Test("I15: an application tunnel takes anything, at its own port")
    func applicationTunnel() {
        let world = self.waypoint(gateway("10.1.0.9")) {
            $0.applicationTunnel = ApplicationTunnel(handoff: .none, port: 15088)
        }
        #expect(
            world.connect("10.77.0.1:80", at: "waypoint", arrival: "10.1.0.9") == .admitted("10.1.0.9:15088"))
    }

    @Test("I7: for another pod's address is refused")
    func mismatch() {
        var world = self.world
        world.add(workload("other", "10.1.0.3"))
        #expect(world.connect("10.1.0.3:80").isRefused(400, "ip mismatch: 10.1.0.2 != 10.1.0.3"))
        #expect(world.connect("1.2.3.4:80").isRefused(400, "ip mismatch"))
    }

    @Test("I8: at a waypoint that nobody names is refused")
    func strayWaypoint() {
        var world = self.world
        world.add(workload("waypoint", "10.1.0.9"))
        world.add(service("web", "10.2.0.1"))
        #expect(world.connect("10.1.0.2:80", at: "waypoint", arrival: "10.1.0.9").isRefused(400))
        #expect(world.connect("10.2.0.1:80", at: "waypoint", arrival: "10.1.0.9").isRefused(400))
    }

    @Test("I9: a service's waypoint is not its workload's, nor the other way round")
    func apart() {
        var world = self.waypoint(gateway("10.1.0.9"))
        world.add(workload("server", "10.1.0.2"))
        #expect(world.connect("10.1.0.2:80", at: "waypoint", arrival: "10.1.0.9").isRefused(400))
        world = self.waypoint(gateway("10.1.0.9"))
        world.add(service("web", "10.2.0.1"))
        #expect(world.connect("10.2.0.1:80", at: "waypoint", arrival: "10.1.0.9").isRefused(400))
    }

    @Test("weighted waypoints count as the single one does, unless their weight is zero", arguments: [1, 0])
    func weighted(weight: UInt32) {
        var world = self.waypoint(gateway("10.1.0.77"))
        world.add(
            service("web", "10.2.0.1") {
                $0.weightedWaypoints = [WeightedWaypoint(destination: gateway("10.1.0.9"), weight: weight)]
            })
        let answer = world.connect("10.2.0.1:80", at: "waypoint", arrival: "10.1.0.9")
        #expect((answer == .admitted("10.1.0.9:80")) == (weight > 0))
    }

    @Test("I10: not allowed by policy is 401, and the log says so")
    func policy() {
        var world = self.world
        var match = AuthorizationPolicy.Match()
        match.principals = [.exact("cluster.local/ns/ns1/sa/somebody-else")]
        world.add(
            AuthorizationPolicy(
                key: NamespacedName(namespace: "ns1", name: "p"), scope: .namespace, action: .allow,
                rules: [.init(clauses: [.init(matches: [match])])]))
        #expect(world.connect("10.1.0.2:80").isRefused(401, "allow policies exist, but none allowed"))
        #expect(
            world.connect("10.1.0.2:80", as: "spiffe://cluster.local/ns/ns1/sa/somebody-else")
                == .admitted("10.1.0.2:80"))
    }

    @Test("policy sees the real target, not the tunnel's port or the service's address")
    func policyTarget() {
        var world = self.world
        world.add(service("web", "10.2.0.1"))
        world.add(workload("server", "10.1.0.2") { $0.serves("web", [:]) })
        var match = AuthorizationPolicy.Match()
        match.destinationPorts = [8080]
        match.destinationIPs = [CIDR("10.1.0.2/32")!]
        world.add(
            AuthorizationPolicy(
                key: NamespacedName(namespace: "ns1", name: "p"), scope: .namespace, action: .allow,
                rules: [.init(clauses: [.init(matches: [match])])]))
        #expect(world.connect("web.ns1.svc.cluster.local:80") == .admitted("10.1.0.2:8080"))
        #expect(world.connect("10.1.0.2:81").isRefused(401))
    }

    @Test("R13: a dry-run policy decides nothing and is reported")
    func dryRun() {
        final class Seen: Sendable { let names = Mutex<[String]>([]) }
        let seen = Seen()
        var world = self.world
        world.settings.reportDryRun = { policy in seen.names.withLock { $0.append(policy.key.name) } }
        var policy = denyAll(.namespace)
        policy.isDryRun = true
        world.add(policy)
        #expect(world.connect("10.1.0.2:80") == .admitted("10.1.0.2:80"))
        #expect(seen.names.withLock { $0 } == ["deny"])
    }

    @Test("a policy that is named but missing admits nothing: everything waits for it, to be refused in the end")
    func missingPolicy() {
        var world = self.world
        world.add(
            workload("server", "10.1.0.2") {
                $0.authorizationPolicies = [NamespacedName(namespace: "ns1", name: "late")]
            })
        #expect(world.connect("10.1.0.2:80").waits(401, "ns1/late"))
        #expect(world.plaintext("10.1.0.2:80").waits(401, "ns1/late"))
    }

    @Test(
        "7.2: an authority that is none is 400",
        arguments: [
            "", "10.1.0.2", "10.1.0.2:", "10.1.0.2:99999", "host", ":80", "host:", "ho st:80", "a/b:80",
            "user@host:80", "h\u{f6}st:80", "[::1", String(repeating: "a", count: 300) + ":80",
        ])
    func badAuthority(authority: String) { #expect(self.world.connect(authority).isRefused(400)) }

    @Test("L12: streams of an unknown pod wait, to be answered with 503; after the request's form")
    func unknownPod() {
        #expect(self.world.connect("10.1.0.2:80", at: "stranger").waits(503, "not known on this node"))
        #expect(self.world.connect("nonsense", at: "stranger").isRefused(400))
    }

    @Test("a target at one of the proxy's own ports is refused", arguments: [15001, 15006, 15008])
    func selfCall(port: Int) {
        #expect(self.world.connect("10.1.0.2:\(port)").isRefused(503, "recursive call"))
        #expect(self.world.plaintext("10.1.0.2:\(port)").isRefused(503, "recursive call"))
    }

    private func labels(_ world: World, headers: [(name: String, value: String)], source: String = "10.1.0.1:4")
        -> (flow: Flow?, headers: [String: String])
    {
        let answer = world.snapshot.admitInbound(
            InboundQuestion(
                pod: pod("server"), source: IPEndpoint(source)!, local: IPEndpoint("10.1.0.2:15008")!,
                identity: try? WorkloadIdentity(spiffe: "spiffe://td/ns/x/sa/y"),
                via: .hbone(authority: "10.1.0.2:8080", headers: headers)))
        guard case .admit(_, _, let response, let labels, _) = answer else { return (nil, [:]) }
        return (
            (labels as? FlowLabels)?.flow,
            Dictionary(response.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
        )
    }

    @Test("I12: the answer tells who we are, unless that is switched off")
    func responseBaggage() {
        #expect(
            self.labels(self.world, headers: []).headers["baggage"]?.hasPrefix("k8s.cluster.name=Kubernetes") == true)
        var quiet = self.world
        quiet.settings.usesBaggage = false
        #expect(self.labels(quiet, headers: []).headers.isEmpty)
    }

    @Test(
        "I13 and 7.6: the caller is known by address, else by baggage unless that is off; identity only by certificate")
    func source() {
        let baggage = [(name: "baggage", value: "k8s.namespace.name=far,k8s.job.name=j,service.name=s")]
        var world = self.world
        let known = self.labels(world, headers: baggage).flow
        #expect(known?.source?.namespace == "ns1")
        #expect(known?.sourceIdentity?.description == "spiffe://td/ns/x/sa/y")
        let unknown = self.labels(world, headers: baggage, source: "10.8.0.1:4").flow
        #expect(unknown?.source?.namespace == "far")
        #expect(unknown?.source?.workloadName == "j")
        let gateway = self.labels(world, headers: baggage + [("x-forwarded-network", "Other")]).flow
        #expect(gateway?.source?.namespace == "far")
        world.settings.usesBaggage = false
        #expect(self.labels(world, headers: baggage, source: "10.8.0.1:4").flow?.source == nil)
    }

    @Test("7.6: the service is the one that the client named, else the first that serves the port")
    func attributedService() {
        var world = self.world
        world.add(
            service("a", "10.2.0.1", ports: [80: 8080]),
            service("b", "10.2.0.2", ports: [80: 8080]))
        world.add(
            workload("server", "10.1.0.2") {
                $0.serves("a")
                $0.serves("b")
            })
        #expect(self.labels(world, headers: []).flow?.service?.name == "a")
        let named = [(name: "forwarded", value: "for=\"1.2.3.4:5\";host=b.ns1.svc.cluster.local")]
        #expect(self.labels(world, headers: named).flow?.service?.name == "b")
        let foreign = [(name: "forwarded", value: "host=elsewhere.example.com")]
        #expect(self.labels(world, headers: foreign).flow?.service?.name == "a")
    }

    @Test("I17: the forwarded host without quotes; nothing when empty or not ASCII")
    func forwarded() {
        func host(_ value: String) -> String? { Forwarded.host(in: [("forwarded", value)]) }
        #expect(host("for=\"1.2.3.4:5\";host=\"web.ns1\"") == "web.ns1")
        #expect(host("Host=web.ns1") == "web.ns1")
        #expect(host("for=1.2.3.4; host=web.ns1 ") == "web.ns1")
        #expect(host("host=") == nil)
        #expect(host("host=\"\"") == nil)
        #expect(host("host=w\u{f6}b") == nil)
        #expect(host("for=\"1.2.3.4:5\"") == nil)
        #expect(Forwarded.host(in: []) == nil)
    }
}

@Suite("Inbound plaintext")
struct PlaintextTests {
    @Test("is dialled where it was going")
    func admitted() {
        var world = World()
        world.add(workload("server", "10.1.0.2"))
        #expect(world.plaintext("10.1.0.2:8080") == .admitted("10.1.0.2:8080"))
        #expect(world.plaintext("10.1.0.2:8080", at: "stranger").waits(503, "not known on this node"))
    }

    @Test("strict mutual TLS refuses it: the policy that demands an identity")
    func strict() {
        var world = World()
        let key = NamespacedName(namespace: "istio-system", name: "istio_converted_static_strict")
        var match = AuthorizationPolicy.Match()
        match.notPrincipals = [.presence]
        world.add(
            AuthorizationPolicy(
                key: key, scope: .workloadSelector, action: .deny, rules: [.init(clauses: [.init(matches: [match])])]))
        world.add(workload("server", "10.1.0.2") { $0.authorizationPolicies = [key] })
        #expect(
            world.plaintext("10.1.0.2:8080")
                .isRefused(401, "explicitly denied by: istio-system/istio_converted_static_strict"))
        #expect(world.connect("10.1.0.2:8080") == .admitted("10.1.0.2:8080"))
        #expect(world.connect("10.1.0.2:8080", as: nil).isRefused(401))
    }
}

@Suite("Baggage")
struct BaggageTests {
    @Test("reads what it writes", arguments: [Workload.Kind.deployment, .cronJob, .pod, .job])
    func roundTrip(kind: Workload.Kind) {
        let baggage = Baggage(
            workload("w", "10.0.0.1") {
                $0.kind = kind
                $0.locality = Locality(region: "r", zone: "z")
            })
        #expect(Baggage(headers: [("baggage", baggage.text)]) == baggage)
    }

    @Test("takes several lines, ignores the unknown and the empty, and gives up on what is not ASCII")
    func lenient() {
        let baggage = Baggage(headers: [
            ("baggage", "k8s.namespace.name=a, service.name=b=c,k8s.cluster.name=,x=y,nothing"),
            ("other", "service.version=no"), ("baggage", "service.version=v2"),
        ])
        #expect(baggage?.namespace == "a")
        #expect(baggage?.canonicalName == "b")
        #expect(baggage?.cluster == nil)
        #expect(baggage?.canonicalRevision == "v2")
        #expect(Baggage(headers: [("baggage", "service.name=\u{fc}")]) == nil)
        #expect(Baggage(headers: [("baggage", "x=y")]) == nil)
        #expect(Baggage(headers: [("baggage", String(repeating: "service.name=a,", count: 1000))]) == nil)
        #expect(Baggage(headers: []) == nil)
    }
}
