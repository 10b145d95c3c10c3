import KubeAPI
import MeshControl
import MeshModel
import Testing

@Suite("What Envoy waypoints are told")
struct EnvoyTests {
    private static let envoy = "type.googleapis.com/envoy.config"
    private static let gateway = Make.gateway("w", className: "martlet-envoy-waypoint")
    private static let host = "s.ns1.svc.company.com"

    /// A service behind an Envoy waypoint, with one pod.
    private static func mesh() -> Mesh {
        let mesh = Mesh()
        // As in a cluster, where a class of another controller would make its Gateways somebody else's.
        for built in GatewayKind.builtin { mesh.set(built.object) }
        mesh.set(
            Self.gateway, WaypointTests.service(WaypointTests.use), Make.pod("p", ip: "127.0.0.1"))
        return mesh
    }

    /// `listener main_internal`: type and name of each resource of the Gateway `w`, sorted.
    private static func names(_ keys: some Sequence<String>) -> [String] {
        keys.filter { $0.contains("ns1/w|") }.map { key in
            let parts = key.split(separator: "|", maxSplits: 2).map(String.init)
            let type = parts[1].split(separator: ".").last.map(String.init) ?? ""
            return "\(type) \(parts[2])"
        }.sorted()
    }

    private static func all(_ mesh: Mesh) -> [String] { Self.names(mesh.index.envoyResources.all.keys) }

    @Test("a Gateway of the class has its listeners, and for a service its routes, cluster and endpoints")
    func resources() {
        let mesh = Self.mesh()
        #expect(
            Self.all(mesh) == [
                "Cluster main_internal", "Cluster outbound|80||\(Self.host)",
                "ClusterLoadAssignment outbound|80||\(Self.host)", "Listener connect_terminate",
                "Listener main_internal", "RouteConfiguration inbound-vip|80|http|\(Self.host)",
            ])
        mesh.set(
            Make.gateway("w"),
            KubeObject(
                .gatewayClasses, name: "istio-waypoint",
                ["spec": ["controllerName": .string(GatewayClassView.waypointController)]]))
        #expect(Self.all(mesh).isEmpty, "our own waypoint wants none of it")
    }

    @Test("a pod in the mesh is reached by a tunnel that only its identity may answer")
    func identities() {
        let mesh = Self.mesh()
        let identity = "connect_originate|spiffe://cluster.local/ns/ns1/sa/sa1"
        mesh.set(Make.pod("p", ip: "127.0.0.1", annotations: ["ambient.istio.io/redirection": "enabled"]))
        #expect(Self.all(mesh).contains("Listener \(identity)"))
        #expect(Self.all(mesh).contains("Cluster \(identity)"))
    }

    @Test("a change concerns what it changes, and nothing else")
    func changes() {
        let mesh = Self.mesh()
        let endpoints = mesh.set(Make.pod("q", ip: "127.0.0.2"))
        #expect(Self.names(endpoints) == ["ClusterLoadAssignment outbound|80||\(Self.host)"])
        let routes = mesh.set(
            Make.route("r", [["backendRefs": [["name": "s", "port": 80]], "timeouts": ["request": "1s"]]]))
        #expect(Self.names(routes) == ["RouteConfiguration inbound-vip|80|http|\(Self.host)"])
        let policy = mesh.set(GateTests.policy("DENY", [["to": [["operation": ["methods": ["PUT"]]]]]]))
        #expect(Self.names(policy) == ["Listener main_internal"])
    }

    @Test("another service is known as soon as a route leads to it")
    func destinations() {
        let mesh = Self.mesh()
        mesh.set(Make.service("far", ip: "10.0.0.7"))
        #expect(!Self.all(mesh).contains { $0.contains("far") })
        mesh.set(Make.route("r", [["backendRefs": [["name": "far", "port": 80]]]]))
        #expect(Self.all(mesh).contains("Cluster outbound|80||far.ns1.svc.company.com"))
        #expect(Self.all(mesh).contains("ClusterLoadAssignment outbound|80||far.ns1.svc.company.com"))
        #expect(mesh.index.envoyProblems["ns1/w"] == nil)
    }

    @Test("the pod runs our agent with the arguments of Istio's templates, from an image that holds Envoy")
    func pod() {
        let mesh = Mesh()
        mesh.set(GatewayPlanTests.gateway(className: "martlet-envoy-waypoint"))
        let container = GatewayPlanTests.container(mesh)
        #expect(container["image"] == "hub/proxy:1" && container["command"] == ["martlet"])
        #expect(
            container["args"] == [
                "proxy", "waypoint", "--domain", "$(POD_NAMESPACE).svc.company.com", "--serviceCluster",
                "w.$(POD_NAMESPACE)", "--proxyLogLevel", "warning",
            ])
        #expect(
            container["volumeMounts"]?.array?.contains(["name": "istio-envoy", "mountPath": "/etc/istio/proxy"]) == true
        )
        #expect(mesh.index.waypointRunners["ns1/w"]?.engine == .envoy)
        mesh.configure { $0.waypoints.envoyImage = "" }
        let accepted = mesh.index.gatewayReports["ns1/w"]?.condition("Accepted")
        #expect(accepted?.isTrue == false && accepted?.message.contains("WAYPOINT_ENVOY_IMAGE") == true)
    }

    @Test("what it does not serve is not accepted", arguments: ["workload", "all"])
    func workloads(traffic: String) {
        let mesh = Mesh()
        mesh.set(
            GatewayPlanTests.gateway(
                labels: ["istio.io/waypoint-for": traffic], className: "martlet-envoy-waypoint"))
        let accepted = mesh.index.gatewayReports["ns1/w"]?.condition("Accepted")
        #expect(accepted?.isTrue == false && accepted?.message.contains("services only") == true)
        #expect(GatewayPlanTests.objects(mesh).isEmpty)
    }
}
