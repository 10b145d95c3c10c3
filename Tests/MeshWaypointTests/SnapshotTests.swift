import MeshDirectory
import MeshExchange
import MeshHTTP
import MeshIdentity
import MeshModel
import MeshRoutes
import MeshTunnel
import MeshWaypoint
import MeshXDS
import Testing

@Suite("What a waypoint takes, and where it leads")
struct SnapshotTests {
    private let own = NamespacedName(namespace: "shop", name: "waypoint")
    private let pod = EnrolledPod(uid: "self", name: "waypoint-1", namespace: "shop", serviceAccount: "waypoint")

    private func snapshot(
        _ type: WaypointRules.TrafficType? = .service, state: MeshState = shop(), pod: String = "",
        backends: BackendTable = BackendTable(), _ change: (inout ServiceRules) -> Void = { _ in }
    ) -> WaypointSnapshot {
        var rules = ServiceRules(key: web)
        change(&rules)
        var settings = WaypointSettings(
            identity: WorkloadIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "waypoint"),
            gateway: self.own)
        settings.workload = pod
        return WaypointSnapshot(
            WaypointPicture(
                state: state, rules: [rules], waypoint: type.map { WaypointRules(key: self.own, trafficType: $0) }),
            settings, backends: backends, compiler: RuleCompiler(trustDomains: ["cluster.local"]))
    }

    /// What a CONNECT leads to, in words.
    private func answer(_ authority: String, _ snapshot: WaypointSnapshot) -> String {
        let question = InboundQuestion(
            pod: self.pod, source: IPEndpoint("10.0.0.1:41000")!, local: IPEndpoint("10.0.0.9:15008")!,
            identity: alice, via: .hbone(authority: authority, headers: []))
        switch snapshot.admitInbound(question) {
        case .serve(_, let target, _):
            guard let target = target as? ServedTarget else { return "serve something else" }
            return "\(target.what) at \(target.local.map { "\($0)" } ?? "no address")"
        case .wait(let status, let reason): return "wait \(status) \(reason.kind)"
        case .refuse(let status, let reason, _): return "refuse \(status) \(reason.kind)"
        case .admit: return "admit"
        }
    }

    @Test("a service is asked for by address or by name")
    func services() {
        let snapshot = self.snapshot()
        let service = "service(shop/web.shop.svc.cluster.local, port: 80)"
        #expect(self.answer("10.96.0.1:80", snapshot) == "\(service) at 10.96.0.1:80")
        #expect(self.answer("web.shop.svc.cluster.local:80", snapshot) == "\(service) at no address")
        #expect(self.answer("nonsense", snapshot) == "refuse 400 badRequest")
    }

    @Test("what is not ours, or not ours yet, waits for the news and is refused when none come")
    func unknown() {
        #expect(self.answer("10.96.0.1:81", self.snapshot()) == "wait 404 unknownService")
        #expect(self.answer("10.96.0.7:80", self.snapshot()) == "wait 404 unknownService")
        #expect(self.answer("10.0.0.2:8080", self.snapshot()) == "wait 404 unknownService")
        #expect(self.answer("10.96.0.1:80", self.snapshot(.workload)) == "wait 404 unknownService")
        #expect(self.answer("10.96.0.1:80", self.snapshot(.some(.none))) == "wait 404 unknownService")
        #expect(self.answer("10.96.0.1:80", self.snapshot(nil)) == "wait 404 unknownService")
        var state = shop()
        state.apply(upserted: [.service(service("other", "10.96.0.2"))], removed: [])
        #expect(self.answer("10.96.0.2:80", self.snapshot(state: state)) == "wait 404 unknownService")
    }

    @Test("a workload is asked for by its address, when it names our Service as its waypoint")
    func workloads() {
        var state = shop()
        let gateway = GatewayAddress(
            destination: .hostname(NamespacedName(namespace: "shop", name: "waypoint.shop.svc.cluster.local")),
            hbonePort: 15008)
        state.apply(
            upserted: [.workload(workload("db", "10.0.0.5") { $0.waypoint = gateway })], removed: [])
        let wanted = "workload(uid: \"Kubernetes//Pod/shop/db\", port: 5432) at 10.0.0.5:5432"
        #expect(self.answer("10.0.0.5:5432", self.snapshot(.all, state: state)) == wanted)
        #expect(self.answer("10.0.0.5:5432", self.snapshot(.workload, state: state)) == wanted)
        #expect(self.answer("10.0.0.5:5432", self.snapshot(.service, state: state)) == "wait 404 unknownService")
        #expect(self.answer("10.0.0.2:8080", self.snapshot(.all, state: state)) == "wait 404 unknownService")
    }

    private func plan(_ snapshot: WaypointSnapshot, path: String = "/") throws -> ExchangePlan {
        let port = try #require(
            snapshot.served(ServedTarget(.service(web, port: 80), local: IPEndpoint("10.96.0.1:80")!)))
        return port.plan(
            RequestHead(method: "GET", scheme: "http", authority: "web", path: path, fields: HTTP2HeaderList()),
            RequestOrigin(
                client: IPEndpoint("10.0.0.1:41000")!, identity: alice, local: nil, isGRPC: false, now: 0, time: 0,
                random: 0, memory: LoopMemory()))
    }

    @Test("without routes a request goes to an endpoint of the service, whose identity is demanded")
    func direct() throws {
        guard case .forward(let plan) = try self.plan(self.snapshot()) else {
            Issue.record("not forwarded")
            return
        }
        let endpoint = try #require(plan.backend.endpoints.first)
        #expect(plan.backend.endpoints.count == 1)
        #expect(endpoint.workload == "Kubernetes//Pod/shop/web-1")
        #expect(endpoint.key.address == IPEndpoint("10.0.0.2:8080")!)
        #expect(endpoint.route?.peer == IPEndpoint("10.0.0.2:15008")!)
        #expect(endpoint.route?.source.serviceAccount == "waypoint")
        #expect(endpoint.key.expected.map(\.serviceAccount) == ["web-1"])
    }

    @Test("a route's backend is another service of the mesh")
    func routed() throws {
        var state = shop()
        state.apply(
            upserted: [
                .service(service("canary", "10.96.0.3", port: 8080)),
                .workload(
                    workload("canary-1", "10.0.0.7") {
                        $0.tunnelProtocol = .none
                        $0.services = [
                            NamespacedName(namespace: "shop", name: "canary.shop.svc.cluster.local"): []
                        ]
                    }),
            ], removed: [])
        let snapshot = self.snapshot(state: state) { rules in
            var rule = HTTPRule()
            rule.backends = [
                HTTPBackend(
                    destination: .service(
                        NamespacedName(namespace: "shop", name: "canary.shop.svc.cluster.local"), port: 8080))
            ]
            rules.routes = [
                HTTPRoute(
                    name: NamespacedName(namespace: "shop", name: "to-canary"), kind: .http, port: nil, rules: [rule])
            ]
        }
        guard case .forward(let plan) = try self.plan(snapshot) else {
            Issue.record("not forwarded")
            return
        }
        let endpoint = try #require(plan.backend.endpoints.first)
        #expect(endpoint.key.address == IPEndpoint("10.0.0.7:8080")!)
        #expect(endpoint.route == nil)
    }

    private func backend(_ snapshot: WaypointSnapshot) throws -> Backend {
        struct Refused: Error {}
        guard case .forward(let plan) = try self.plan(snapshot) else { throw Refused() }
        return plan.backend
    }

    @Test("CONNECT to an endpoint says who we are, and for which service")
    func headers() throws {
        var state = shop()
        state.apply(
            upserted: [.workload(workload("waypoint-1", "10.0.0.9") { $0.workloadName = "waypoint" })], removed: [])
        let route = try #require(
            self.backend(self.snapshot(state: state, pod: "Kubernetes//Pod/shop/waypoint-1")).endpoints.first?.route)
        let headers = Dictionary(uniqueKeysWithValues: route.headers.map { ($0.name, $0.value) })
        #expect(headers["baggage"]?.contains("k8s.pod.name=waypoint,") == true)
        #expect(headers["forwarded"] == "host=web.shop.svc.cluster.local")
        #expect(headers.count == 2)
        let unknown = try #require(self.backend(self.snapshot()).endpoints.first?.route)
        #expect(unknown.headers.map(\.name) == ["forwarded"], "nothing is made up")
    }

    @Test("an endpoint that is known by a name only is looked up when it is needed")
    func named() throws {
        var state = MeshState(nodeName: "-")
        state.apply(
            upserted: [
                .service(service()),
                .workload(
                    workload("api", "10.0.0.2") {
                        $0.addresses = []
                        $0.hostname = "api.example"
                        $0.tunnelProtocol = .none
                        $0.services = [web: [ServicePort(port: 80, targetPort: 8443)]]
                    }),
            ], removed: [])
        let endpoint = try #require(self.backend(self.snapshot(state: state)).endpoints.first)
        #expect(endpoint.key.host == "api.example" && endpoint.key.address.port == 8443 && endpoint.route == nil)
    }

    private func remote(_ sans: [String], gateway: Workload?) -> MeshState {
        var state = MeshState(nodeName: "-")
        var service = service()
        service.subjectAltNames = sans
        let far: [MeshAddress] = ["10.9.0.1", "10.9.0.2"].map { address in
            .workload(
                workload("far-\(address)", address) {
                    $0.network = "other"
                    $0.networkGateway = GatewayAddress(
                        destination: .address(NetworkAddress(network: "other", address: IPAddress("192.0.2.1")!)),
                        hbonePort: 15008)
                    $0.services = [web: [ServicePort(port: 80, targetPort: 8080)]]
                })
        }
        state.apply(upserted: [.service(service)] + far, removed: [])
        if let gateway { state.apply(upserted: [.workload(gateway)], removed: []) }
        return state
    }

    @Test("endpoints of another network are one endpoint, behind that network's gateway")
    func otherNetwork() throws {
        let gateway = workload("gateway", "192.0.2.1") { $0.network = "other" }
        let san = "spiffe://cluster.local/ns/shop/sa/web"
        let backends = BackendTable()
        let known = self.snapshot(state: self.remote([san], gateway: gateway), backends: backends)
        let backend = try self.backend(known)
        #expect(backend.endpoints.count == 1 && backend.endpoints[0].weight == 2)
        let route = try #require(backend.endpoints[0].route)
        #expect(route.peer == IPEndpoint("192.0.2.1:15008")!)
        #expect(route.authority == "web.shop.svc.cluster.local:80" && route.inner?.authority == route.authority)
        #expect(route.expected.map(\.serviceAccount) == ["gateway"])
        #expect(route.inner?.expected.map(\.description) == [san])
        #expect(route.inner?.headers.contains { $0 == ("x-forwarded-network", "") } == true)
        #expect(try self.backend(known) === backend, "worked out once")

        let nobody = self.snapshot(state: self.remote([], gateway: gateway))
        #expect(try self.backend(nobody).endpoints.isEmpty, "anybody could be behind the gateway")
        let lost = self.snapshot(state: self.remote([san], gateway: nil))
        #expect(try self.backend(lost).endpoints.isEmpty)
    }

    @Test("the gateway comes and goes, and the endpoints with it")
    func gatewayChanges() throws {
        let gateway = workload("gateway", "192.0.2.1") { $0.network = "other" }
        let backends = BackendTable()
        var state = self.remote(["spiffe://cluster.local/ns/shop/sa/web"], gateway: nil)
        #expect(try self.backend(self.snapshot(state: state, backends: backends)).endpoints.isEmpty)
        state.apply(upserted: [.workload(gateway)], removed: [])
        #expect(try self.backend(self.snapshot(state: state, backends: backends)).endpoints.count == 1)
        state.apply(upserted: [], removed: [gateway.uid])
        #expect(try self.backend(self.snapshot(state: state, backends: backends)).endpoints.isEmpty)
    }

    @Test("a TCPRoute at a port that declares nothing is for HTTP too")
    func streamRoute() throws {
        var state = shop()
        var undeclared = service()
        undeclared.ports = [ServicePort(port: 80, targetPort: 8080)]
        let canary = NamespacedName(namespace: "shop", name: "canary.shop.svc.cluster.local")
        state.apply(
            upserted: [
                .service(undeclared), .service(service("canary", "10.96.0.3", port: 8080)),
                .workload(
                    workload("canary-1", "10.0.0.7") {
                        $0.services = [canary: [ServicePort(port: 8080, targetPort: 8080)]]
                    }),
            ], removed: [])
        func snapshot(_ destination: RouteDestination) -> WaypointSnapshot {
            self.snapshot(state: state) { rules in
                rules.streams = [
                    StreamRoute(
                        name: NamespacedName(namespace: "shop", name: "t"), port: nil, isTLS: false,
                        backends: [StreamBackend(destination: destination)])
                ]
            }
        }
        let backend = try self.backend(snapshot(.service(canary, port: 8080)))
        #expect(backend.endpoints.first?.key.address == IPEndpoint("10.0.0.7:8080")!)
        guard case .answer(let answer) = try self.plan(snapshot(.invalid(reason: "no such"))) else {
            Issue.record("a route that leads nowhere was passed by")
            return
        }
        #expect(answer.response.status == 500 && answer.route == "shop/t")
    }

    @Test("a gate that cannot be enforced lets nothing pass")
    func closed() throws {
        let snapshot = self.snapshot { $0.gate.closedBecause = "no such policy kind" }
        guard case .answer(let answer) = try self.plan(snapshot) else {
            Issue.record("not refused")
            return
        }
        #expect(answer.response.status == 403)
    }

    @Test("a service can have its access log switched off, or a collector of its own")
    func telemetry() async {
        let bench = TelemetryBench()
        let exporter = SpanExporter(
            bench.metrics, resource: [], version: "0", log: bench.log.logger("trace"), post: { _, _ in 200 })
        let snapshot = self.snapshot { rules in
            var telemetry = WaypointTelemetry()
            telemetry.isAccessLogEnabled = false
            telemetry.traceCollector = "http://collector:4318/v1/traces"
            rules.telemetry = telemetry
        }
        bench.telemetry.publish(snapshot, spans: exporter.queue)
        bench.telemetry.finished(
            report {
                $0.trace = TraceContext(traceHigh: 1, traceLow: 1, span: 1, isSampled: true)
                $0.request.path = "/quiet"
            })
        bench.telemetry.finished(
            report {
                $0.ends.service = nil
                $0.request.path = "/loud"
            })
        await bench.log.flush()
        #expect(!bench.memory.text.contains("/quiet"))
        #expect(bench.memory.text.contains("/loud"))
        #expect(exporter.queue.count == 1)
        #expect(snapshot.picture.traceCollector == "http://collector:4318/v1/traces")
    }

    @Test("rules are compiled once for as long as they and the waypoint's stay; endpoints as long as theirs do")
    func kept() async throws {
        let backends = BackendTable()
        let compiler = RuleCompiler(trustDomains: ["cluster.local"])
        let settings = WaypointSettings(identity: alice, gateway: self.own)
        let directory = WaypointDirectory(
            nodeName: "-", make: { WaypointSnapshot($0, settings, backends: backends, compiler: compiler) })
        await directory.apply(
            .addresses(
                upserted: [.service(service()), .workload(workload("web-1", "10.0.0.2") { $0.services = [web: []] })],
                removed: []))
        await directory.apply(.waypoint(WaypointRules(key: self.own)))
        await directory.apply(.services(upserted: [ServiceRules(key: web)], removed: []))
        await directory.synced()
        struct Refused: Error {}
        func backend() async throws -> Backend {
            guard case .forward(let plan) = try self.plan(await directory.snapshot) else { throw Refused() }
            return plan.backend
        }
        let first = try await backend()
        await directory.apply(.addresses(upserted: [.workload(workload("other", "10.0.0.8"))], removed: []))
        #expect(try await backend() === first)
        await directory.apply(.addresses(upserted: [], removed: ["Kubernetes//Pod/shop/web-1"]))
        let second = try await backend()
        #expect(second !== first)
        #expect(second.endpoints.isEmpty)
        // No rules any more: nobody of ours.
        await directory.apply(.services(upserted: [], removed: [web]))
        #expect(await directory.snapshot.served(ServedTarget(.service(web, port: 80), local: nil)) == nil)
    }
}
