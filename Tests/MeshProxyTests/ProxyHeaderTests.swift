import MeshIdentity
import MeshModel
import MeshProxy
import MeshTunnel
import Testing

@Suite("An application behind a tunnel that wants to know who called")
struct ProxyHeaderTests {
    private let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10]

    @Test("IPv4: version 2, PROXY, stream, both addresses and ports")
    func v4() {
        let header = ProxyHeader(
            source: IPEndpoint("10.1.0.1:40000")!, destination: IPEndpoint("10.2.0.1:80")!, identity: nil,
            serviceHost: nil)
        #expect(
            header.bytes == self.signature + [0x21, 0x11, 0, 12, 10, 1, 0, 1, 10, 2, 0, 1, 0x9c, 0x40, 0, 80])
    }

    @Test("IPv6, and with mixed families the IPv4 address mapped: neither is lost")
    func v6() {
        func addresses(_ source: String, _ destination: String) -> ArraySlice<UInt8> {
            ProxyHeader(
                source: IPEndpoint(source)!, destination: IPEndpoint(destination)!, identity: nil, serviceHost: nil
            ).bytes[12...]
        }
        let first: [UInt8] = [0x20, 1, 0xd, 0xb8] + Array(repeating: 0, count: 11) + [1]
        let mapped: [UInt8] = Array(repeating: 0, count: 10) + [0xff, 0xff, 10, 2, 0, 1]
        #expect(
            Array(addresses("[2001:db8::1]:1", "[2001:db8::1]:2")) == [0x21, 0x21, 0, 36] + first + first + [
                0, 1, 0, 2,
            ])
        #expect(
            Array(addresses("[2001:db8::1]:1", "10.2.0.1:2")) == [0x21, 0x21, 0, 36] + first + mapped + [0, 1, 0, 2])
        #expect(
            Array(addresses("10.2.0.1:1", "[2001:db8::1]:2")) == [0x21, 0x21, 0, 36] + mapped + first + [0, 1, 0, 2])
    }

    @Test("the caller's identity is type 0xD0, the service type 0xD1")
    func types() throws {
        let uri = "spiffe://td/ns/a/sa/b"
        let header = ProxyHeader(
            source: IPEndpoint("10.1.0.1:1")!, destination: IPEndpoint("10.2.0.1:2")!,
            identity: try WorkloadIdentity(spiffe: uri), serviceHost: "web")
        #expect(Array(header.bytes[14..<16]) == [0, UInt8(12 + 3 + uri.utf8.count + 3 + 3)])
        #expect(Array(header.bytes[28...]) == [0xD0, 0, UInt8(uri.utf8.count)] + uri.utf8 + [0xD1, 0, 3] + "web".utf8)
    }

    /// A waypoint pod at 10.1.0.9 of the service `wp`, for the service `web` and the workload `server`.
    private func world(_ change: (inout Workload) -> Void = { _ in }) -> World {
        var world = World.withClient
        world.add(
            service("wp", "10.2.0.9", ports: [15008: 15008]),
            service("web", "10.2.0.1") { $0.waypoint = gateway(service: "wp") })
        world.add(
            workload("waypoint", "10.1.0.9") {
                $0.serves("wp", [:])
                $0.applicationTunnel = ApplicationTunnel(handoff: .proxyProtocol, port: 15088)
                change(&$0)
            },
            workload("server", "10.1.0.2") { $0.waypoint = gateway(service: "wp") })
        return world
    }

    private func admit(_ world: World, _ authority: String) -> (target: String, preamble: [UInt8])? {
        let answer = world.snapshot.admitInbound(
            InboundQuestion(
                pod: pod("waypoint"), source: IPEndpoint("10.1.0.1:40000")!, local: IPEndpoint("10.1.0.9:15008")!,
                identity: try? WorkloadIdentity(spiffe: "spiffe://cluster.local/ns/ns1/sa/client"),
                via: .hbone(authority: authority, headers: [])))
        guard case .admit(_, let target, _, _, let preamble) = answer else { return nil }
        return (target.description, preamble)
    }

    private func header(_ destination: String, _ host: String?) -> [UInt8] {
        ProxyHeader(
            source: IPEndpoint("10.1.0.1:40000")!, destination: IPEndpoint(destination)!,
            identity: try? WorkloadIdentity(spiffe: "spiffe://cluster.local/ns/ns1/sa/client"), serviceHost: host
        ).bytes
    }

    @Test(
        "I6: the tunnel's port at loopback, and a header for what was asked: a service, a workload, a service by name")
    func handoff() throws {
        let world = self.world()
        let service = try #require(self.admit(world, "10.2.0.1:80"))
        #expect(service.target == "127.0.0.1:15088")
        #expect(service.preamble == self.header("10.2.0.1:80", "web.ns1.svc.cluster.local"))
        #expect(try #require(self.admit(world, "10.1.0.2:8080")).preamble == self.header("10.1.0.2:8080", nil))
        #expect(
            try #require(self.admit(world, "web.ns1.svc.cluster.local:80")).preamble
                == self.header("10.2.0.1:80", "web.ns1.svc.cluster.local"))
    }

    @Test("LOCALHOST_APP_TUNNEL=false: the pod's own address")
    func notLocal() throws {
        var world = self.world()
        world.settings.localApplicationTunnel = false
        #expect(try #require(self.admit(world, "10.2.0.1:80")).target == "10.1.0.9:15088")
    }

    @Test("policy is asked about the pod's address, wherever the application is dialled")
    func policy() {
        var world = self.world()
        var match = AuthorizationPolicy.Match()
        match.destinationIPs = [CIDR("10.1.0.9/32")!]
        match.destinationPorts = [15088]
        world.add(
            AuthorizationPolicy(
                key: NamespacedName(namespace: "ns1", name: "p"), scope: .namespace, action: .allow,
                rules: [.init(clauses: [.init(matches: [match])])]))
        #expect(self.admit(world, "10.2.0.1:80")?.target == "127.0.0.1:15088")
    }

    @Test("the own network's address of a service comes first, then IPv4; a service without any is 503")
    func serviceAddress() {
        var world = self.world()
        world.add(
            service("web", "fd02::1", "10.2.0.1") {
                $0.addresses.insert(NetworkAddress(network: "other", address: IPAddress("10.8.0.1")!), at: 0)
            }, service("headless"))
        #expect(
            self.admit(world, "web.ns1.svc.cluster.local:80")?.preamble
                == self.header("10.2.0.1:80", "web.ns1.svc.cluster.local"))
        #expect(
            world.connect("headless.ns1.svc.cluster.local:80", at: "waypoint", arrival: "10.1.0.9")
                .isRefused(503, "PROXY protocol"))
    }

    @Test("I16: a waypoint service without ports serves a pod with an application tunnel")
    func withoutPorts() {
        var world = self.world()
        world.add(service("wp", "10.2.0.9", ports: [:]))
        #expect(world.route("10.2.0.1:80") == .hbone(peer: "10.1.0.9:15008", authority: "10.2.0.1:80"))
        #expect(self.admit(world, "10.2.0.1:80")?.target == "127.0.0.1:15088")
    }

    @Test("a tunnel without a header gets none")
    func noHeader() throws {
        let world = self.world { $0.applicationTunnel = ApplicationTunnel(handoff: .none, port: 15088) }
        let admitted = try #require(self.admit(world, "10.2.0.1:80"))
        #expect(admitted.target == "10.1.0.9:15088" && admitted.preamble.isEmpty)
    }
}
