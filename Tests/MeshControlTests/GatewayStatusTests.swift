import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("What a Gateway's status says")
struct GatewayStatusTests {
    static func slice(_ service: String, ready: [Bool]) -> KubeObject {
        KubeObject(
            .endpointSlices, namespace: "ns1", name: "\(service)-1", labels: ["kubernetes.io/service-name": service],
            [
                "addressType": "IPv4",
                "endpoints": .array(
                    ready.enumerated().map {
                        ["addresses": [.string("10.1.0.\($0 + 1)")], "conditions": ["ready": .bool($1)]]
                    }), "ports": [["name": "mesh", "port": 15008, "protocol": "TCP"]],
            ])
    }
    static func front(_ name: String = "w", ip: String = "10.0.0.7") -> KubeObject {
        WaypointTests.labelled(
            Make.service(name, ip: ip), ["gateway.istio.io/managed": "istio.io-mesh-controller"])
    }
    static func report(_ mesh: Mesh) -> GatewayReport? { mesh.index.gatewayReports["ns1/w"] }
    static func reason(_ mesh: Mesh, _ type: String) -> String? { Self.report(mesh)?.condition(type)?.reason }
    static func addresses(_ mesh: Mesh) -> [String]? { Self.report(mesh)?.addresses?.map(\.value) }

    @Test("83: accepted at once, programmed when somebody answers at its address, and not when nobody does any more")
    func programmed() {
        let mesh = Mesh()
        mesh.set(GatewayPlanTests.gateway())
        #expect(Self.reason(mesh, "Accepted") == "Accepted" && Self.reason(mesh, "ResolvedRefs") == "ResolvedRefs")
        #expect(Self.report(mesh)?.generation == 4)
        #expect(Self.reason(mesh, "Programmed") == "AddressNotAssigned" && Self.addresses(mesh) == [])
        mesh.set(Self.front(ip: ""))
        #expect(Self.reason(mesh, "Programmed") == "AddressNotAssigned")
        mesh.set(Self.front())
        #expect(Self.reason(mesh, "Programmed") == "Pending")
        #expect(Self.addresses(mesh) == ["10.0.0.7", "w.ns1.svc.company.com"])
        #expect(Self.report(mesh)?.addresses?.map(\.type) == ["IPAddress", "Hostname"])
        mesh.set(Self.slice("w", ready: [false]))
        #expect(Self.report(mesh)?.condition("Programmed")?.isTrue == false)
        mesh.set(Self.slice("w", ready: [false, true]))
        let programmed = Self.report(mesh)?.condition("Programmed")
        #expect(programmed?.isTrue == true && programmed?.message.contains("w.ns1.svc.company.com:15008") == true)
        mesh.set(Self.slice("w", ready: []))
        #expect(Self.reason(mesh, "Programmed") == "Pending")
        #expect(Self.addresses(mesh) == ["10.0.0.7", "w.ns1.svc.company.com"], "it is still where it was")
        mesh.remove(Self.front())
        #expect(Self.addresses(mesh) == [], "an address of nothing leads nowhere")
    }

    @Test("83: its listener has no routes of its own, and is programmed with it")
    func listener() throws {
        let mesh = Mesh()
        mesh.set(GatewayPlanTests.gateway(), Self.front())
        func conditions() -> [String: Bool] {
            Dictionary(
                uniqueKeysWithValues: Self.report(mesh)?.listeners?.first?.conditions.map { ($0.type, $0.isTrue) } ?? []
            )
        }
        #expect(
            conditions() == ["Accepted": true, "Programmed": false, "Conflicted": false, "ResolvedRefs": true])
        mesh.set(Self.slice("w", ready: [true]))
        #expect(conditions()["Programmed"] == true)
    }

    @Test(
        "84: a waypoint whose only listener is no waypoint's is not accepted",
        arguments: [(15009, "HBONE", false), (15008, "HTTP", false), (15008, "hbone", true)] as [(Int64, String, Bool)])
    func listeners(port: Int64, protocolName: String, hints: Bool) {
        let mesh = Mesh()
        mesh.set(
            GatewayPlanTests.gateway(port: port, protocolName: protocolName), Self.front(),
            Self.slice("w", ready: [true]))
        #expect(Self.reason(mesh, "Accepted") == "ListenersNotValid")
        #expect(Self.report(mesh)?.condition("Accepted")?.isTrue == false)
        #expect(Self.reason(mesh, "Programmed") == "Invalid")
        let accepted = Self.report(mesh)?.listeners?.first?.conditions.first { $0.type == "Accepted" }
        #expect(accepted?.reason == "UnsupportedProtocol" && accepted?.isTrue == false)
        #expect(accepted?.message.contains("upper case") == hints)
    }

    @Test("84: beside a good listener, others are refused one by one")
    func others() {
        let mesh = Mesh()
        func listener(_ name: String, _ port: Int64, _ protocolName: String) -> JSONValue {
            ["name": .string(name), "port": .int(port), "protocol": .string(protocolName)]
        }
        mesh.set(
            GatewayPlanTests.gateway {
                $0.set(
                    ["spec", "listeners"],
                    to: [listener("a", 15008, "HBONE"), listener("b", 80, "HTTP"), listener("c", 15008, "HBONE")])
            }, Self.front(), Self.slice("w", ready: [true]))
        let accepted = Self.report(mesh)?.condition("Accepted")
        #expect(accepted?.isTrue == true && accepted?.reason == "ListenersNotValid")
        #expect(Self.reason(mesh, "Programmed") == "Programmed")
        let listeners = Self.report(mesh)?.listeners ?? []
        #expect(listeners.map(\.isValid) == [true, false, false])
        #expect(listeners.last?.conditions.contains { $0.type == "Conflicted" && $0.isTrue } == true)
        #expect(listeners.allSatisfy { $0.conditions.count == 4 })
    }

    @Test("route kinds mean nothing on a waypoint's listener")
    func kinds() {
        let mesh = Mesh()
        mesh.set(
            GatewayPlanTests.gateway {
                $0.set(
                    ["spec", "listeners"],
                    to: [
                        [
                            "name": "a", "port": 15008, "protocol": "HBONE",
                            "allowedRoutes": ["kinds": [["kind": "HTTPRoute"]]],
                        ]
                    ])
            })
        let refs = Self.report(mesh)?.listeners?.first?.conditions.first { $0.type == "ResolvedRefs" }
        #expect(refs?.reason == "InvalidRouteKinds" && refs?.isTrue == false)
        #expect(Self.reason(mesh, "Accepted") == "Accepted")
    }

    @Test("86: with a host name for an address, the status is that Service's")
    func unmanaged() {
        let mesh = Mesh()
        func gateway(_ addresses: JSONValue) -> KubeObject {
            GatewayPlanTests.gateway { $0.set(["spec", "addresses"], to: addresses) }
        }
        for host in ["own.ns1.svc.company.com", "own.ns1.svc", "own"] {
            mesh.set(gateway([["type": "Hostname", "value": .string(host)]]))
            #expect(Self.reason(mesh, "Programmed") == "AddressNotAssigned")
            mesh.set(Make.service("own", ip: "10.0.0.8"), Self.slice("own", ready: [true]))
            #expect(Self.reason(mesh, "Programmed") == "Programmed")
            #expect(Self.addresses(mesh) == ["10.0.0.8", "own.ns1.svc.company.com"])
            mesh.remove(Make.service("own"))
        }
        mesh.set(gateway([["type": "Hostname", "value": "elsewhere.example"]]))
        #expect(Self.reason(mesh, "Programmed") == "AddressNotAssigned")
        mesh.set(gateway([["type": "Hostname", "value": "own"], ["value": "1.2.3.4"]]))
        #expect(Self.reason(mesh, "Accepted") == "UnsupportedAddress")
    }

    @Test("an address that was asked for and not got is said")
    func requested() {
        let mesh = Mesh()
        mesh.set(
            GatewayPlanTests.gateway { $0.set(["spec", "addresses"], to: [["value": "10.0.0.9"]]) },
            Self.front(ip: "10.0.0.7"), Self.slice("w", ready: [true]))
        #expect(Self.reason(mesh, "Programmed") == "AddressNotUsable")
        mesh.set(Self.front(ip: "10.0.0.9"))
        #expect(Self.reason(mesh, "Programmed") == "Programmed")
    }

    @Test("which types of addresses are listed can be chosen", arguments: ["IPAddress", "Hostname"])
    func addressType(type: String) {
        let mesh = Mesh()
        mesh.set(
            GatewayPlanTests.gateway(annotations: ["networking.istio.io/address-type": type]), Self.front())
        #expect(Self.report(mesh)?.addresses?.map(\.type) == [type])
    }

    @Test("what the server refused is in the status until it is gone")
    func trouble() {
        let mesh = Mesh()
        mesh.set(GatewayPlanTests.gateway(), Self.front(), Self.slice("w", ready: [true]))
        mesh.index.gatewayTroubles.set("ns1/w", "Deployment ns1/w was refused: no")
        mesh.index.settle()
        #expect(Self.report(mesh)?.condition("Programmed")?.message.contains("was refused") == true)
        mesh.index.gatewayTroubles.remove("ns1/w")
        mesh.index.settle()
        #expect(Self.reason(mesh, "Programmed") == "Programmed")
    }

    @Test("the annotation for a type of Service is refused, because it would do nothing")
    func serviceType() {
        let mesh = Mesh()
        mesh.set(GatewayPlanTests.gateway(annotations: ["networking.istio.io/service-type": "LoadBalancer"]))
        #expect(Self.reason(mesh, "Accepted") == "DeprecatedField" && GatewayPlanTests.objects(mesh).isEmpty)
    }

    @Test("47: a waypoint of one's own that takes PROXY headers has a listener that says so")
    func sandwich() {
        let mesh = Mesh()
        mesh.set(
            GatewayPlanTests.gateway(
                annotations: ["ambient.istio.io/waypoint-inbound-binding": "PROXY/15088"], port: 15088,
                protocolName: "istio.io/PROXY"
            ) { $0.set(["spec", "addresses"], to: [["type": "Hostname", "value": "own"]]) },
            Make.service("own", ip: "10.0.0.8"), Self.slice("own", ready: [true]))
        #expect(Self.reason(mesh, "Accepted") == "Accepted" && Self.reason(mesh, "Programmed") == "Programmed")
    }

    @Test("a remote Gateway is only an address")
    func remote() {
        let mesh = Mesh()
        mesh.set(
            GatewayPlanTests.gateway(className: "istio-remote") {
                $0.set(["spec", "addresses"], to: [["type": "IPAddress", "value": "9.9.9.9"]])
            })
        #expect(Self.reason(mesh, "Programmed") == "Programmed" && Self.addresses(mesh) == ["9.9.9.9"])
        #expect(Self.report(mesh)?.listeners == nil && GatewayPlanTests.objects(mesh).isEmpty)
    }

    @Test("classes of ours are accepted, and only waypoints promise features")
    func classes() {
        let mesh = Mesh()
        func gatewayClass(_ name: String, _ controller: String) -> KubeObject {
            KubeObject(.gatewayClasses, name: name, ["spec": ["controllerName": .string(controller)]])
        }
        mesh.set(
            gatewayClass("mine", "istio.io/mesh-controller"), gatewayClass("far", "istio.io/unmanaged-gateway"),
            gatewayClass("edge", "istio.io/gateway-controller"))
        let reports = mesh.index.gatewayClassReports
        #expect(reports["mine"]?.condition("Accepted")?.isTrue == true)
        #expect(reports["mine"]?.features == reports["mine"]?.features?.sorted())
        #expect(reports["mine"]?.features?.contains("MeshConsumerRoute") == true)
        #expect(reports["far"]?.condition("Accepted")?.isTrue == true && reports["far"]?.features == nil)
        #expect(reports["edge"] == nil, "somebody else's")
    }
}
