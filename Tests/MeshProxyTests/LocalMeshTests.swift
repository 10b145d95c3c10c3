import MeshModel
import MeshProcess
import MeshProxy
import MeshTunnel
import Testing

@Suite("A mesh that is written by hand")
struct LocalMeshTests {
    private static let text = """
        workloads:
        - name: web-1
          namespace: shop
          serviceAccount: web
          workloadIps: ["10.1.0.2", "fd00::2"]
          protocol: hbone
          node: n1
          waypoint: {destination: shop/way.example}
          authorizationPolicies: [shop/only-admins]
          services: {"shop/web.example": {80: 8080}}
        - uid: cluster//Pod/shop/old
          name: old
          namespace: shop
          workloadIps: ["10.1.0.3"]
          status: Unhealthy
          capacity: 0
          networkGateway: {destination: there/192.0.2.1, hboneMtlsPort: 15009}
        services:
        - name: web
          namespace: shop
          hostname: web.example
          vips: ["/10.2.0.1", "there/10.2.0.2"]
          ports: {80: 8080, 443: 0}
          subjectAltNames: ["spiffe://cluster.local/ns/shop/sa/web"]
        policies:
        - name: only-admins
          namespace: shop
          scope: WorkloadSelector
          action: Allow
          rules:
          - - - namespaces: [{Exact: admin}]
                notPrincipals: [{Prefix: evil}, {Presence: {}}]
                sourceIps: ["10.0.0.0/8"]
                destinationPorts: [8080]
              - serviceAccounts: [ops/sre]
        - {name: all, namespace: shop, scope: Namespace, action: Deny, dryRun: true, rules: [[]]}
        """

    private func read(_ environment: [String: String], file: String? = nil) throws -> ProxyConfiguration {
        struct NotThere: Error {}
        return try ProxyConfiguration(
            environment: environment, cores: 1, fileExists: { _ in false },
            readText: { path in
                guard let file, path == "/mesh.yaml" else { throw NotThere() }
                return file
            })
    }

    @Test("says the same in a file and in the variable")
    func sources() throws {
        let local = try #require(try self.read(["LOCAL_XDS_PATH": "/mesh.yaml"], file: Self.text).localMesh)
        #expect(try self.read(["LOCAL_XDS": Self.text]).localMesh?.addresses == local.addresses)
        #expect(try self.read([:]).localMesh == nil)
        #expect(throws: InvalidSetting.self) {
            try self.read(["LOCAL_XDS_PATH": "/mesh.yaml", "LOCAL_XDS": "{}"], file: Self.text)
        }
        #expect(throws: InvalidSetting.self) { try self.read(["LOCAL_XDS_PATH": "/mesh.yaml"]) }
    }

    @Test("has workloads, services and policies, with the defaults of those that come from the control plane")
    func content() throws {
        let local = try #require(try self.read(["LOCAL_XDS": Self.text]).localMesh)
        guard case .workload(let web) = local.addresses[0], case .workload(let old) = local.addresses[1],
            case .service(let service) = local.addresses[2]
        else {
            Issue.record("\(local.addresses)")
            return
        }
        #expect(web.uid == "Kubernetes//Pod/shop/web-1" && web.tunnelProtocol == .hbone && web.isHealthy)
        #expect(web.trustDomain == "cluster.local" && web.capacity == 1 && web.clusterID == "Kubernetes")
        #expect(web.addresses == [IPAddress("10.1.0.2")!, IPAddress("fd00::2")!])
        let key = NamespacedName(namespace: "shop", name: "web.example")
        #expect(web.services == [key: [ServicePort(port: 80, targetPort: 8080)]])
        #expect(web.waypoint?.destination == .hostname(NamespacedName("shop/way.example")!))
        #expect(web.waypoint?.hbonePort == 15008)
        #expect(
            old.uid == "cluster//Pod/shop/old" && old.tunnelProtocol == .none && !old.isHealthy && old.capacity == 0)
        let there = NetworkAddress(network: "there", address: IPAddress("192.0.2.1")!)
        #expect(old.networkGateway == GatewayAddress(destination: .address(there), hbonePort: 15009))
        #expect(service.key == key && service.addresses.map(\.description) == ["/10.2.0.1", "there/10.2.0.2"])
        #expect(service.ports == [.init(port: 80, targetPort: 8080), .init(port: 443, targetPort: 0)])

        let policy = local.policies[0]
        #expect(policy.scope == .workloadSelector && policy.action == .allow && !policy.isDryRun)
        var match = AuthorizationPolicy.Match()
        match.namespaces = [.exact("admin")]
        match.notPrincipals = [.prefix("evil"), .presence]
        match.sourceIPs = [CIDR("10.0.0.0/8")!]
        match.destinationPorts = [8080]
        var other = AuthorizationPolicy.Match()
        other.serviceAccounts = [.init(namespace: "ops", serviceAccount: "sre")]
        #expect(policy.rules == [.init(clauses: [.init(matches: [match, other])])])
        #expect(local.policies[1].isDryRun && local.policies[1].rules == [.init(clauses: [])])
    }

    @Test("connections are routed by it")
    func routed() async throws {
        let local = try #require(try self.read(["LOCAL_XDS": Self.text]).localMesh)
        var world = World.withClient
        world.state.apply(upserted: local.policies, removed: [])
        world.state.apply(upserted: local.addresses, removed: [])
        #expect(world.route("10.1.0.3:80") == .tcp("10.1.0.3:80"))
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.2:15008", authority: "10.1.0.2:8080"))
    }

    @Test("alone: an empty XDS_ADDRESS is a control plane that is not there, but only beside a local mesh")
    func alone() throws {
        #expect(try self.read(["LOCAL_XDS": "{}", "XDS_ADDRESS": ""]).followsControlPlane == false)
        #expect(try self.read(["LOCAL_XDS": "{}"]).followsControlPlane)
        #expect(throws: InvalidSetting.self) { try self.read(["XDS_ADDRESS": ""]) }
    }

    @Test(
        "what does not fit stops the start, and says where",
        arguments: [
            ("workload: []", "unknown field workload"),
            ("workloads: [{name: a}]", "namespace"),
            ("workloads: [{name: a, namespace: b, protocol: carrier-pigeon}]", "wanted TCP, HBONE"),
            ("workloads: [{name: a, namespace: b, workloadIps: [localhost]}]", "workloads.[0].workloadIps"),
            ("workloads: [{name: a, namespace: b, services: {web: {80: 80}}}]", "<namespace>/<hostname>"),
            ("workloads: [{name: a, namespace: b, services: {n/web: {0: 80}}}]", "wanted a port"),
            ("workloads: [{name: a, namespace: b}, {name: a, namespace: b}]", "is there twice"),
            ("services: [{name: a, namespace: b, hostname: c, vips: [10.0.0.1]}]", "<network>/<ip>"),
            ("services: [{name: a, namespace: b, hostname: c, ports: {80: 70000}}]", "ports"),
            ("policies: [{name: a, namespace: b, scope: Namespace}]", "action"),
            ("policies: [{name: a, namespace: b, action: Deny}]", "scope"),
            (
                "policies: [{name: a, namespace: b, scope: Global, action: Deny, rules: [[[{namespace: [{Exact: c}]}]]]}]",
                "unknown field namespace;"
            ),
            (
                "policies: [{name: a, namespace: b, scope: Global, action: Deny, rules: [[[{namespaces: [{Like: c}]}]]]}]",
                "unknown field Like"
            ),
            (
                "policies: [{name: a, namespace: b, scope: Global, action: Deny, rules: [[[{sourceIps: [10.0.0.0/99]}]]]}]",
                "10.0.0.0/99"
            ),
        ])
    func refused(text: String, says: String) {
        let error = #expect(throws: InvalidSetting.self) { try self.read(["LOCAL_XDS": text]) }
        #expect(error?.name == "LOCAL_XDS" && error?.wanted.contains(says) == true, "\(error?.wanted ?? "")")
    }
}
