import KubeAPI
import MeshChannel
import MeshControl
import MeshDNS
import MeshEnvoy
import MeshModel
import MeshXDS
import Testing

@Suite("What sidecars are told")
struct SidecarTests {
    private static let host = "s.ns1.svc.company.com"
    private static let label = ["security.istio.io/tlsMode": "istio", "app": "a"]

    private static func client(_ namespace: String = "foo", ip: String = "127.0.1.1") -> KubeObject {
        Make.pod("client", namespace: namespace, ip: ip, labels: Self.label)
    }

    /// `<layer> <type> <name>`, sorted.
    private static func all(_ mesh: Mesh) -> [String] {
        mesh.index.envoyResources.all.keys.filter { $0.hasPrefix("sidecar") }.map(Self.text).sorted()
    }

    private static func text(_ key: String) -> String {
        let parts = key.split(separator: "|", maxSplits: 2).map(String.init)
        return "\(parts[0]) \(parts[1].split(separator: ".").last ?? "") \(parts[2])"
    }

    private static func changes(_ events: Set<String>) -> [String] {
        events.filter { $0.hasPrefix("envoy sidecar") }.map { Self.text(String($0.dropFirst("envoy ".count))) }.sorted()
    }

    private static func mesh() -> Mesh {
        let mesh = Mesh()
        for built in GatewayKind.builtin { mesh.set(built.object) }
        mesh.set(Make.service("s"), Make.pod("p", ip: "127.0.0.1"))
        return mesh
    }

    @Test("nothing before there is a sidecar; then what all have in common, a namespace's routes, a pod's own side")
    func resources() {
        let mesh = Self.mesh()
        #expect(Self.all(mesh).isEmpty)
        mesh.set(Self.client())
        #expect(
            Self.all(mesh) == [
                "sidecar:foo/client Listener virtualInbound",
                "sidecar:foo/client RouteConfiguration InboundPassthroughCluster",
                "sidecar:foo/client TypedExtensionConfig envoy.filters.http.jwt_authn",
                "sidecars Cluster BlackHoleCluster",
                "sidecars Cluster InboundPassthroughCluster", "sidecars Cluster PassthroughCluster",
                "sidecars Cluster outbound|80||\(Self.host)",
                "sidecars ClusterLoadAssignment outbound|80||\(Self.host)",
                "sidecars Listener 0.0.0.0_80", "sidecars Listener virtualOutbound",
                "sidecars:foo RouteConfiguration 80",
            ])
        #expect(mesh.index.sidecarPods["foo/client"]?.account == "sa1")
    }

    @Test("a change concerns what it changes, and nothing else")
    func changes() {
        let mesh = Self.mesh()
        mesh.set(Self.client())
        #expect(
            Self.changes(mesh.set(Make.pod("q", ip: "127.0.0.2"))) == [
                "sidecars ClusterLoadAssignment outbound|80||\(Self.host)"
            ])
        #expect(
            Self.changes(mesh.set(Make.peer("strict", namespace: "foo", mode: "STRICT"))) == [
                "sidecar:foo/client Listener virtualInbound",
                "sidecar:foo/client RouteConfiguration InboundPassthroughCluster",
            ])
        #expect(
            Self.changes(mesh.set(Self.client("bar", ip: "127.0.1.2"))) == [
                "sidecar:bar/client Listener virtualInbound",
                "sidecar:bar/client RouteConfiguration InboundPassthroughCluster",
                "sidecar:bar/client TypedExtensionConfig envoy.filters.http.jwt_authn",
                "sidecars:bar RouteConfiguration 80",
            ])
    }

    @Test("a pod in the mesh is reached by a tunnel, and a service with a waypoint by its waypoint's")
    func tunnels() {
        let mesh = Self.mesh()
        let identity = "connect_originate|spiffe://cluster.local/ns/ns1/sa/sa1"
        mesh.set(
            Self.client(),
            Make.pod("p", ip: "127.0.0.1", annotations: ["ambient.istio.io/redirection": "enabled"]))
        #expect(Self.all(mesh).contains("sidecars Listener \(identity)"))
        mesh.set(Make.gateway("w"), WaypointTests.service(WaypointTests.use))
        #expect(
            Self.all(mesh).contains("sidecars Listener 10.0.0.1_80"),
            "whatever is sent to its address goes there, also what is no HTTP")
        #expect(!Self.all(mesh).contains("sidecars Listener \(identity)"), "nobody goes round it")
    }

    // MARK: Names

    private static func capturing(_ namespace: String = "foo", ip: String = "127.0.1.1") -> KubeObject {
        Make.pod("client", namespace: namespace, ip: ip, labels: Self.label) {
            $0.set(
                ["spec", "initContainers"],
                to: [
                    [
                        "name": "istio-proxy", "restartPolicy": "Always",
                        "env": [["name": "ISTIO_META_DNS_CAPTURE", "value": "true"]],
                    ]
                ])
        }
    }

    /// By layer, as texts `<name> <registry> <addresses>`.
    private static func names(_ mesh: Mesh) throws -> [String: [String]] {
        var found: [String: [String]] = [:]
        for (key, resource) in mesh.index.envoyResources.all where resource.type == XDSType.names {
            var held = HeldNameTable()
            let encoded = EncodedResource(type: resource.type, name: resource.name, bytes: resource.bytes)
            let (change, _) = held.receive(
                .with {
                    $0.typeURL = XDSType.names
                    $0.resources = [encoded.message]
                })
            guard case .table(let table) = change else {
                Issue.record("\(key): \(change)")
                continue
            }
            found[String(key.prefix { $0 != "|" })] = table.entries.map { name, entry in
                let whose = entry.registry == .kubernetes ? "\(entry.shortName).\(entry.namespace)" : "-"
                return "\(name) \(whose) \(entry.addresses.map(\.description).joined(separator: ","))"
            }.sorted()
        }
        return found
    }

    @Test("names: none before a pod's are captured; then services with addresses, and pods of those without")
    func names() throws {
        let mesh = Self.mesh()
        mesh.set(
            Self.client(), Make.entry("e", hosts: ["api.example", "*.wild.example"], addresses: ["240.0.0.9"]),
            Make.entry("none", hosts: ["no.address"]),
            Make.entry("given", hosts: ["given.example"], allocated: [("given.example", "240.240.0.1")]),
            Make.entry("block", hosts: ["block.example"], addresses: ["10.5.0.0/16", "2001:db8::1"]),
            Make.service("headless", ip: "None", selector: ["app": "h"]),
            Make.pod("h1", ip: "127.0.2.2", labels: ["app": "h"]),
            Make.pod("h0", ip: "127.0.2.1", labels: ["app": "h"]),
            Make.pod("h2", ip: "127.0.2.3", isReady: false, labels: ["app": "h"]))
        #expect(try Self.names(mesh).isEmpty)
        mesh.set(Self.capturing())
        let table = [
            "*.wild.example - 240.0.0.9", "api.example - 240.0.0.9", "given.example - 240.240.0.1",
            "headless.ns1.svc.company.com headless.ns1 127.0.2.1,127.0.2.2", "\(Self.host) s.ns1 10.0.0.1",
        ]
        #expect(try Self.names(mesh) == ["sidecars": table])
        #expect(
            !Self.changes(mesh.set(Make.pod("q", ip: "127.0.0.2"))).contains { $0.contains("NameTable") },
            "an endpoint of a service with an address is no name's business")
        #expect(
            Self.changes(mesh.set(Make.pod("h3", ip: "127.0.2.4", labels: ["app": "h"]))).contains(
                "sidecars NameTable names"))
        mesh.set(Self.client())
        #expect(try Self.names(mesh).isEmpty)
    }

    @Test("names: a namespace that sees something else has a table of its own")
    func namesOfNamespaces() throws {
        let mesh = Self.mesh()
        mesh.set(
            Self.capturing(), Self.capturing("bar", ip: "127.0.1.2"),
            Make.entry("shared", hosts: ["shared.example"], addresses: ["240.0.0.1"]),
            Make.entry(
                "own", namespace: "foo", hosts: ["shared.example"], addresses: ["240.0.0.2"],
                createdAt: "2026-02-01T00:00:00Z"))
        let common = "\(Self.host) s.ns1 10.0.0.1"
        #expect(
            try Self.names(mesh) == [
                "sidecars": [common, "shared.example - 240.0.0.1"].sorted(),
                "sidecars:foo": [common, "shared.example - 240.0.0.2"].sorted(),
            ])
        mesh.set(
            Make.entry("secret", namespace: "bar", hosts: ["secret.example"], addresses: ["240.0.0.3"]) {
                $0.set(["spec", "exportTo"], to: ["."])
            })
        let names = try Self.names(mesh)
        #expect(names["sidecars:bar"] == [common, "secret.example - 240.0.0.3", "shared.example - 240.0.0.1"].sorted())
        #expect(names["sidecars"]?.contains { $0.hasPrefix("secret") } == false)
        #expect(names["sidecars:foo"]?.contains { $0.hasPrefix("secret") } == false)
    }

    @Test("policies with selectors are the pod's, those with targets are not; one that cannot be done closes it")
    func policies() {
        let mesh = Self.mesh()
        mesh.set(Self.client())
        let own = KubeObject(
            .authorizationPolicies, namespace: "foo", name: "own",
            ["spec": ["selector": ["matchLabels": ["app": "a"]], "action": "DENY", "rules": [[:]]]])
        let routes = "sidecar:foo/client RouteConfiguration InboundPassthroughCluster"
        let both = ["sidecar:foo/client Listener virtualInbound", routes]
        #expect(Self.changes(mesh.set(own)) == both, "streams are refused in the listener")
        let other = KubeObject(
            .authorizationPolicies, namespace: "foo", name: "other",
            ["spec": ["selector": ["matchLabels": ["app": "b"]], "rules": [[:]]]])
        #expect(Self.changes(mesh.set(other)).isEmpty)
        let custom = KubeObject(
            .authorizationPolicies, namespace: "istio-system", name: "custom",
            ["spec": ["action": "CUSTOM", "rules": [[:]]]])
        #expect(Self.changes(mesh.set(custom)) == both)
        #expect(mesh.index.envoyProblems["foo/client"]?.count == 1)
    }

    @Test("what is asked of requests comes without a listener, on which connections would end")
    func requests() {
        let mesh = Self.mesh()
        mesh.set(Self.client())
        func paths(_ path: String) -> KubeObject {
            KubeObject(
                .authorizationPolicies, namespace: "foo", name: "own",
                ["spec": ["rules": [["to": [["operation": ["paths": [.string(path)]]]]]]]])
        }
        mesh.set(paths("/a"))
        #expect(
            Self.changes(mesh.set(paths("/b"))) == ["sidecar:foo/client RouteConfiguration InboundPassthroughCluster"])
        let tokens = KubeObject(
            .requestAuthentications, namespace: "foo", name: "own",
            ["spec": ["jwtRules": [["issuer": "i", "jwks": #"{"keys":[]}"#]]]])
        #expect(
            Self.changes(mesh.set(tokens)) == ["sidecar:foo/client TypedExtensionConfig envoy.filters.http.jwt_authn"])
    }
}

@Suite("Sidecars at the control plane's door")
struct SidecarAdmissionTests {
    private let rule = XDSAdmissionRule(
        nodeProxies: [],
        sidecar: { name in
            name.description == "foo/a"
                ? SidecarPod(namespace: "foo", name: "a", uid: "1", account: "default") : nil
        })

    private func caller(pod: AuthenticatedCaller.Pod?, account: String = "default") -> AuthenticatedCaller {
        AuthenticatedCaller(namespace: "foo", serviceAccount: account, pod: pod)
    }

    @Test("a token of the pod itself is served as that pod")
    func admitted() throws {
        let caller = self.caller(pod: .init(name: "a", uid: "1"))
        let node = "sidecar~10.0.0.1~a.foo~foo.svc.cluster.local"
        #expect(try self.rule.check(caller, ["NAMESPACE": "foo"], node: node) == .sidecar("foo/a"))
        #expect(try self.rule.check(caller, [:], isOpening: true) == .sidecar("foo/a"))
    }

    @Test("any other is not")
    func refused() {
        let node = "sidecar~10.0.0.1~a.foo~foo.svc.cluster.local"
        for caller in [
            self.caller(pod: nil), self.caller(pod: .init(name: "a", uid: "2")),
            self.caller(pod: .init(name: "b", uid: "1")),
            self.caller(pod: .init(name: "a", uid: "1"), account: "other"),
        ] {
            #expect(throws: XDSAdmissionRule.Refusal.self) { try self.rule.check(caller, [:], node: node) }
        }
        let own = self.caller(pod: .init(name: "a", uid: "1"))
        for node in ["sidecar~10.0.0.1~b.foo~foo.svc.cluster.local", "router~10.0.0.1~a.foo~x", "ztunnel", ""] {
            #expect(throws: XDSAdmissionRule.Refusal.self) { try self.rule.check(own, [:], node: node) }
        }
    }
}
