import MeshModel
import MeshProto
import MeshXDS
import Testing

@Suite("Resources from the wire")
struct ConversionTests {
    static let full: Workload = {
        var workload = Workload(uid: "Kubernetes//Pod/ns/a")
        workload.name = "a"
        workload.namespace = "ns"
        workload.addresses = [IPAddress("10.0.0.1")!, IPAddress("2001:db8::1")!]
        workload.network = "net"
        workload.tunnelProtocol = .hbone
        workload.trustDomain = "example.org"
        workload.serviceAccount = "sa"
        workload.waypoint = GatewayAddress(
            destination: .hostname(NamespacedName(namespace: "ns", name: "wp.ns.svc")), hbonePort: 15008)
        workload.networkGateway = GatewayAddress(
            destination: .address(NetworkAddress(network: "n", address: IPAddress("1.2.3.4")!)), hbonePort: 15009)
        workload.node = "node"
        workload.canonicalName = "c"
        workload.canonicalRevision = "r"
        workload.kind = .cronJob
        workload.workloadName = "w"
        workload.isNativeTunnel = true
        workload.applicationTunnel = ApplicationTunnel(handoff: .proxyProtocol, port: 15088)
        workload.services = [
            NamespacedName(namespace: "ns", name: "a.ns.svc"): [
                ServicePort(port: 80, targetPort: 8080, appProtocol: .http2)
            ]
        ]
        workload.authorizationPolicies = [NamespacedName(namespace: "ns", name: "p")]
        workload.isHealthy = false
        workload.clusterID = "c1"
        workload.locality = Locality(region: "r", zone: "z", subzone: "s")
        workload.networkMode = .hostNetwork
        workload.capacity = 0
        return workload
    }()

    static func decode(_ change: (inout Istio_Workload_Workload) -> Void) throws -> MeshAddress {
        var message = Istio_Workload_Workload()
        message.uid = "u"
        change(&message)
        return try MeshAddress(.with { $0.workload = message }, name: "u")
    }

    @Test("a workload survives the way there and back")
    func workloadRoundTrip() throws {
        let bytes: [UInt8] = try MeshAddress.workload(Self.full).proto.serializedBytes()
        let back = try MeshAddress(try Istio_Workload_Address(serializedBytes: bytes), name: Self.full.uid)
        #expect(back == .workload(Self.full))
    }

    @Test("a service survives the way there and back")
    func serviceRoundTrip() throws {
        var service = MeshModel.Service(name: "s", namespace: "ns", hostname: "s.ns.svc")
        service.addresses = [NetworkAddress(network: "n", address: IPAddress("10.1.0.1")!)]
        service.blocks = [NetworkBlock(network: "n", cidr: CIDR("10.2.0.0/16")!)]
        service.ports = [ServicePort(port: 80, targetPort: 0, appProtocol: .grpc)]
        service.subjectAltNames = ["spiffe://td/ns/a/sa/b"]
        service.weightedWaypoints = [
            WeightedWaypoint(
                destination: GatewayAddress(
                    destination: .hostname(NamespacedName(namespace: "a", name: "b")), hbonePort: 1), weight: 7)
        ]
        service.loadBalancing.routingPreference = [.network, .node]
        service.loadBalancing.mode = .failover
        service.loadBalancing.healthPolicy = .allowAll
        service.ipFamilies = .dual
        service.isCanonical = true
        service.ingressUsesWaypoint = true
        service.visibility = .namespace
        #expect(try MeshAddress(MeshAddress.service(service).proto, name: "x") == .service(service))
    }

    @Test("what the wire leaves out has its default")
    func defaults() throws {
        let expected = Workload(uid: "u")
        guard case .workload(let workload) = try Self.decode({ $0.workloadType = .pod }) else { return }
        #expect(workload == expected)
        #expect(workload.trustDomain == "cluster.local" && workload.serviceAccount == "default")
        #expect(workload.clusterID == "Kubernetes" && workload.capacity == 1)
    }

    @Test("a workload that cannot be honoured is refused by name")
    func refusals() {
        let cases: [(String, (inout Istio_Workload_Workload) -> Void)] = [
            ("5 bytes", { $0.addresses = [.init([1, 2, 3, 4, 5])] }),
            ("LEGACY_ISTIO_MTLS", { $0.tunnelProtocol = .legacyIstioMtls }),
            ("tunnel protocol 9", { $0.tunnelProtocol = .UNRECOGNIZED(9) }),
            ("status 9", { $0.status = .UNRECOGNIZED(9) }),
            ("network mode 9", { $0.networkMode = .UNRECOGNIZED(9) }),
            ("application tunnel protocol 9", { $0.applicationTunnel.protocol = .UNRECOGNIZED(9) }),
            ("without a destination", { $0.waypoint.hboneMtlsPort = 1 }),
            ("without a destination", { $0.networkGateway = .init() }),
            ("\"nokey\"", { $0.services["nokey"] = .init() }),
        ]
        for (text, change) in cases {
            let error = #expect(throws: RejectedResource.self) { try Self.decode(change) }
            #expect(error?.name == "u")
            #expect(error?.reason.contains(text) == true, "\(text)")
        }
        #expect(throws: RejectedResource.self) { try MeshAddress(Istio_Workload_Address(), name: "x") }
    }

    @Test("a service that cannot be honoured is refused by name")
    func serviceRefusals() {
        let cases: [(inout Istio_Workload_Service) -> Void] = [
            { $0.addresses = [.with { $0.address = .init([1]) }] },
            {
                $0.addresses = [
                    .with {
                        $0.address = .init([1, 2, 3, 4])
                        $0.length = 33
                    }
                ]
            },
            { $0.loadBalancing.routingPreference = [.unspecifiedScope] },
            { $0.loadBalancing.routingPreference = [.UNRECOGNIZED(9)] },
            { $0.loadBalancing.mode = .UNRECOGNIZED(9) },
            { $0.loadBalancing.healthPolicy = .UNRECOGNIZED(9) },
            { $0.ipFamilies = .UNRECOGNIZED(9) },
            { $0.weightedWaypoints = [.init()] },
        ]
        for change in cases {
            var message = Istio_Workload_Service()
            message.hostname = "h"
            change(&message)
            #expect(throws: RejectedResource.self) { try MeshAddress(.with { $0.service = message }, name: "n") }
        }
    }

    @Test("an unknown visibility counts as public, an unknown kind of owner as a pod")
    func tolerated() throws {
        var message = Istio_Workload_Service()
        message.hostname = "h"
        message.visibility = .UNRECOGNIZED(9)
        guard case .service(let service) = try MeshAddress(.with { $0.service = message }, name: "n") else { return }
        #expect(service.visibility == .everywhere)
        #expect(throws: Never.self) { try Self.decode { $0.workloadType = .UNRECOGNIZED(9) } }
    }

    @Test("a policy survives the way there and back")
    func policyRoundTrip() throws {
        var match = AuthorizationPolicy.Match()
        match.namespaces = [.exact("a"), .prefix("b"), .suffix("c"), .presence]
        match.notPrincipals = [.presence]
        match.serviceAccounts = [.init(namespace: "n", serviceAccount: "s")]
        match.sourceIPs = [CIDR("10.0.0.0/8")!, CIDR("::/0")!]
        match.notDestinationPorts = [1, 65535]
        let policy = AuthorizationPolicy(
            key: NamespacedName(namespace: "n", name: "p"), scope: .workloadSelector, action: .deny,
            rules: [.init(clauses: [.init(matches: [match])]), .init(clauses: [])], isDryRun: true)
        let decoded = try AuthorizationPolicy.decode(policy.proto, name: "n/p")
        #expect(decoded.policy == policy && decoded.flaws.isEmpty)
    }

    @Test("an unreadable rule allows nothing, and denies everything")
    func flaws() throws {
        for action in [Istio_Security_Action.allow, .deny] {
            let message = Istio_Security_Authorization.with {
                $0.name = "p"
                $0.namespace = "n"
                $0.action = action
                $0.rules = [
                    .with { $0.clauses = [.with { $0.matches = [.with { $0.sourceIps = [.init()] }] }] }
                ]
            }
            let decoded = try AuthorizationPolicy.decode(message, name: "n/p")
            #expect(decoded.flaws.count == 1)
            #expect(decoded.policy.rules == (action == .allow ? [] : [.init(clauses: [])]))
        }
        for change: (inout Istio_Security_Authorization) -> Void in [
            { $0.scope = .UNRECOGNIZED(9) }, { $0.action = .UNRECOGNIZED(9) },
        ] {
            var message = Istio_Security_Authorization()
            message.name = "p"
            change(&message)
            #expect(throws: RejectedResource.self) { try AuthorizationPolicy.decode(message, name: "n/p") }
        }
    }
}
