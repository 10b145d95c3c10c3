import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("What policies' statuses say")
struct StatusTests {
    static func accepted(_ mesh: Mesh, _ key: String = "ns1/p") -> StatusCondition? {
        mesh.index.policyStatuses[key]?.conditions.first { $0.type == "WaypointAccepted" }
    }
    static func targets(_ targets: JSONValue, namespace: String = "ns1") -> KubeObject {
        var policy = Make.policy("p", namespace: namespace, ["targetRefs": targets, "rules": [[:]]])
        policy.json.set(["metadata", "generation"], to: 3)
        return policy
    }

    @Test("50, 64: targets: bound, without a waypoint, not there")
    func services() {
        let mesh = Mesh()
        mesh.set(Self.targets([["kind": "Service", "name": "s"]]))
        #expect(Self.accepted(mesh)?.reason == "TargetNotFound")
        #expect(mesh.index.policyStatuses["ns1/p"]?.generation == 3)
        #expect(mesh.index.policyStatuses["ns1/p"]?.conditions.count == 1, "not meant for the node proxy")
        mesh.set(Make.service("s"))
        #expect(Self.accepted(mesh)?.reason == "AncestorNotBound" && Self.accepted(mesh)?.isTrue == false)
        mesh.set(Make.gateway("w"), WaypointTests.service(WaypointTests.use))
        #expect(Self.accepted(mesh)?.isTrue == true && Self.accepted(mesh)?.message == "bound to ns1/w")
        mesh.set(
            Self.targets([
                ["kind": "Service", "name": "s"], ["kind": "Service", "group": "core", "name": "t"],
                ["kind": "ServiceEntry", "group": "networking.istio.io", "name": "e"],
            ]))
        #expect(Self.accepted(mesh)?.reason == "PartiallyInvalid" && Self.accepted(mesh)?.isTrue == true)
        #expect(
            Self.accepted(mesh)?.message
                == "Invalid targetRefs: Service.core:ns1/t, ServiceEntry.networking.istio.io:ns1/e")
        mesh.set(Self.targets([["kind": "Service", "name": "x"], ["kind": "Secret", "name": "y"]]))
        #expect(Self.accepted(mesh)?.reason == "Invalid" && Self.accepted(mesh)?.isTrue == false)
    }

    @Test("64: Gateways by address, classes by namespace and controller")
    func gateways() {
        let mesh = Mesh()
        let gateway: JSONValue = [["kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "w"]]
        mesh.set(Self.targets(gateway))
        #expect(Self.accepted(mesh)?.reason == "TargetNotFound")
        mesh.set(Make.gateway("w"))
        #expect(Self.accepted(mesh)?.reason == "Accepted")

        let byClass: JSONValue = [
            ["kind": "GatewayClass", "group": "gateway.networking.k8s.io", "name": "istio-waypoint"]
        ]
        func gatewayClass(_ controller: String) -> KubeObject {
            KubeObject(.gatewayClasses, name: "istio-waypoint", ["spec": ["controllerName": .string(controller)]])
        }
        mesh.set(gatewayClass("istio.io/mesh-controller"), Self.targets(byClass))
        #expect(Self.accepted(mesh)?.reason == "Invalid")
        mesh.set(Self.targets(byClass, namespace: "istio-system"))
        #expect(Self.accepted(mesh, "istio-system/p")?.reason == "Accepted")
        mesh.set(gatewayClass("other"))
        #expect(Self.accepted(mesh, "istio-system/p")?.reason == "Invalid")
        mesh.configure { $0.rootNamespace = "ns1" }
        #expect(Self.accepted(mesh, "istio-system/p")?.reason == "Invalid")
    }

    @Test("PeerAuthentication: what counts, and which words do not")
    func peers() {
        let mesh = Mesh()
        func said(_ key: String) -> StatusCondition? { mesh.index.peerAuthenticationStatuses[key]?.conditions.first }
        mesh.set(Make.peer("old", mode: "STRICT"))
        #expect(said("ns1/old")?.isTrue == true && said("ns1/old")?.reason == "Accepted")
        mesh.set(Make.peer("young", mode: "PERMISSIVE", createdAt: "2026-02-01T00:00:00Z"))
        #expect(said("ns1/young")?.reason == "Superseded" && said("ns1/young")?.message.contains("ns1/old") == true)
        mesh.removePeer("ns1/old")
        #expect(said("ns1/young")?.reason == "Accepted")
        mesh.set(Make.peer("x", namespace: "istio-system", mode: "STRICT", selector: ["app": "a"]))
        #expect(said("istio-system/x")?.isTrue == false)
        mesh.set(Make.peer("young", mode: "DISABLE", ports: ["80": "STRICT"]))
        #expect(said("ns1/young")?.message.contains("needs a selector") == true)
        #expect(said("ns1/young")?.message.contains("PERMISSIVE") == true)
        mesh.set(Make.peer("young", mode: "FUTURE"))
        #expect(said("ns1/young")?.reason == "Invalid" && said("ns1/young")?.isTrue == false)
    }
}
