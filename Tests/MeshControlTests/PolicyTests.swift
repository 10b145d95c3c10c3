import KubeAPI
import MeshControl
import MeshModel
import MeshPolicy
import Testing

@Suite("Authorization policies")
struct AuthorizationTests {
    static func convert(
        _ spec: JSONValue, namespace: String = "ns1", annotations: [String: String] = [:], allowsDryRun: Bool = false
    ) -> AuthorizationConverter.Outcome {
        var settings = MeshSettings()
        settings.allowsDryRun = allowsDryRun
        return AuthorizationConverter.convert(
            PolicyView(Make.policy("p", namespace: namespace, annotations: annotations, spec)), settings)
    }

    @Test("50: one with targets is not for the node proxy")
    func targets() {
        let outcome = Self.convert(["targetRefs": [["kind": "Service", "name": "s"]], "rules": [[:]]])
        #expect(outcome.policy == nil && outcome.acceptance == nil)
    }

    @Test("51: layer 4 only is accepted; scope by selector and namespace")
    func scopes() {
        let rules: JSONValue = [["from": [["source": ["namespaces": ["a"]]]]]]
        let plain = Self.convert(["rules": rules])
        #expect(plain.acceptance?.isAccepted == true && plain.acceptance?.reason == "Accepted")
        #expect(plain.policy?.scope == .namespace)
        #expect(Self.convert(["rules": rules], namespace: "istio-system").policy?.scope == .global)
        let selected = Self.convert(["selector": ["matchLabels": ["a": "b"]], "rules": rules])
        #expect(selected.policy?.scope == .workloadSelector)
        // An empty selector selects everything; it must not make the policy inert.
        #expect(Self.convert(["selector": [:], "rules": rules]).policy?.scope == .namespace)
    }

    @Test("52: AUDIT and CUSTOM are refused", arguments: ["AUDIT", "CUSTOM"])
    func actions(_ action: String) {
        let outcome = Self.convert(["action": .string(action), "rules": [[:]]])
        #expect(outcome.policy == nil)
        #expect(outcome.acceptance?.isAccepted == false && outcome.acceptance?.reason == "UnsupportedValue")
    }

    @Test("dry run is refused unless it is switched on")
    func dryRun() {
        let annotations = ["istio.io/dry-run": "true"]
        #expect(Self.convert(["rules": [[:]]], annotations: annotations).acceptance?.isAccepted == false)
        #expect(
            Self.convert(["rules": [[:]]], annotations: annotations, allowsDryRun: true).policy?.isDryRun == true)
        #expect(Self.convert(["rules": [[:]]], annotations: ["istio.io/dry-run": "x"]).policy?.isDryRun == false)
    }

    @Test("53: an ALLOW rule with methods is omitted whole")
    func allowWithHTTP() {
        let outcome = Self.convert([
            "rules": [
                ["to": [["operation": ["methods": ["GET"], "ports": ["80"]]]]],
                ["to": [["operation": ["ports": ["81"]]]]],
            ]
        ])
        #expect(outcome.policy?.rules.count == 1)
        #expect(outcome.acceptance?.reason == "UnsupportedValue" && outcome.acceptance?.isAccepted == true)
        #expect(outcome.acceptance?.message.contains("(found: methods)") == true)
    }

    @Test("54: a DENY keeps its layer-4 remainder; a part without any never matches")
    func denyWithHTTP() {
        let purely = Self.convert(["action": "DENY", "rules": [["to": [["operation": ["paths": ["/x"]]]]]]])
        #expect(purely.policy?.rules.count == 1 && purely.acceptance?.message.contains("no effect") == true)
        let mixed = Self.convert([
            "action": "DENY",
            "rules": [["from": [["source": ["namespaces": ["a"]]]]], ["to": [["operation": ["paths": ["/x"]]]]]],
        ])
        #expect(mixed.acceptance?.message.contains("enforced without them") == true)
        let always = Self.convert(["action": "DENY", "rules": [[:], ["to": [["operation": ["paths": ["/x"]]]]]]])
        #expect(always.acceptance?.message.contains("enforced without them") == true)
        let sameRule = Self.convert([
            "action": "DENY",
            "rules": [
                [
                    "from": [["source": ["namespaces": ["a"]]]],
                    "when": [["key": "request.headers[x]", "values": ["y"]]],
                ]
            ],
        ])
        #expect(sameRule.acceptance?.message.contains("no effect") == true)
    }

    @Test("63: every field has its place")
    func golden() {
        let outcome = Self.convert([
            "rules": [
                [
                    "from": [
                        [
                            "source": [
                                "principals": ["*", "*/sa/x", "td/*", "td/ns/a/sa/b"], "notPrincipals": ["q"],
                                "namespaces": ["a"], "notNamespaces": ["b*"], "serviceAccounts": ["s", "other/t"],
                                "ipBlocks": ["10.0.0.0/8"], "notIpBlocks": ["10.0.0.1"],
                            ]
                        ]
                    ],
                    "to": [["operation": ["ports": ["80"], "notPorts": ["81"]]]],
                    "when": [
                        ["key": "source.ip", "values": ["1.1.1.1"]],
                        ["key": "destination.ip", "notValues": ["2.2.2.2"]],
                        ["key": "destination.port", "values": ["90"], "notValues": ["91"]],
                        ["key": "source.namespace", "values": ["n"]],
                        ["key": "source.principal", "notValues": ["*"]],
                    ],
                ]
            ]
        ])
        var to = AuthorizationPolicy.Match()
        (to.destinationPorts, to.notDestinationPorts) = ([80], [81])
        var from = AuthorizationPolicy.Match()
        from.principals = [.presence, .suffix("/sa/x"), .prefix("td/"), .exact("td/ns/a/sa/b")]
        from.notPrincipals = [.exact("q")]
        (from.namespaces, from.notNamespaces) = ([.exact("a")], [.prefix("b")])
        from.serviceAccounts = [
            .init(namespace: "ns1", serviceAccount: "s"), .init(namespace: "other", serviceAccount: "t"),
        ]
        (from.sourceIPs, from.notSourceIPs) = ([CIDR("10.0.0.0/8")!], [CIDR("10.0.0.1/32")!])
        var when = (0..<5).map { _ in AuthorizationPolicy.Match() }
        when[0].sourceIPs = [CIDR("1.1.1.1/32")!]
        when[1].notDestinationIPs = [CIDR("2.2.2.2/32")!]
        (when[2].destinationPorts, when[2].notDestinationPorts) = ([90], [91])
        when[3].namespaces = [.exact("n")]
        when[4].notPrincipals = [.presence]
        #expect(
            outcome.policy?.rules
                == [.init(clauses: ([to, from] + when).map { .init(matches: [$0]) })])
        #expect(outcome.acceptance?.reason == "Accepted")
    }

    @Test("a trust domain cannot be checked, so it must not widen an ALLOW")
    func trustDomains() {
        let outcome = Self.convert([
            "rules": [["from": [["source": ["namespaces": ["a"], "trustDomains": ["other"]]]]]]
        ])
        #expect(outcome.policy?.rules.isEmpty == true)
        #expect(outcome.acceptance?.message.contains("trustDomains") == true)
    }

    @Test("unreadable values: an ALLOW rule is gone, a DENY rule denies, the status says so")
    func unreadable() {
        let rules: JSONValue = [["from": [["source": ["ipBlocks": ["nonsense"]]]]]]
        let allow = Self.convert(["rules": rules])
        #expect(allow.policy?.rules.isEmpty == true && allow.acceptance?.isAccepted == false)
        let deny = Self.convert(["action": "DENY", "rules": rules])
        #expect(deny.policy?.rules == [.init(clauses: [])] && deny.acceptance?.reason == "Invalid")
    }
}

@Suite("Peer authentication")
struct PeerAuthenticationTests {
    static let strict = "istio-system/istio_converted_static_strict"
    static let converted = "ns1/converted_peer_authentication_selector"

    static func mesh(_ peers: KubeObject...) -> Mesh {
        let mesh = Mesh()
        mesh.set(Make.pod("p"))
        for peer in peers { mesh.set(peer) }
        return mesh
    }
    static func workload(_ mode: String?, _ ports: [String: String] = [:]) -> KubeObject {
        Make.peer("selector", mode: mode, ports: ports, selector: ["app": "a"])
    }
    static func namespace(_ mode: String?) -> KubeObject { Make.peer("ns", mode: mode) }
    static func root(_ mode: String?) -> KubeObject { Make.peer("root", namespace: "istio-system", mode: mode) }

    @Test("55: the static policy exists while any object does")
    func staticPolicy() {
        let mesh = Self.mesh()
        #expect(mesh.set(Self.namespace("PERMISSIVE")) == [Self.strict])
        #expect(mesh.index.policies[Self.strict]?.rules.count == 1)
        #expect(mesh.removePeer("ns1/ns") == [Self.strict])
        #expect(mesh.index.policies[Self.strict] == nil)
    }

    @Test("56: strict for a namespace; the same for a workload changes nothing")
    func namespaceStrict() {
        let mesh = Self.mesh(Self.namespace("STRICT"))
        #expect(mesh.policies("p") == [Self.strict])
        #expect(mesh.set(Self.workload("STRICT")).isEmpty)
    }

    @Test("57: a permissive workload under a strict namespace; one strict port")
    func permissiveWorkload() {
        let mesh = Self.mesh(Self.namespace("STRICT"), Self.workload("PERMISSIVE"))
        #expect(mesh.policies("p") == [])
        mesh.set(Self.workload("PERMISSIVE", ["9090": "STRICT"]))
        #expect(mesh.policies("p") == [Self.converted])
    }

    @Test("58: ports and parents")
    func ports() {
        #expect(Self.mesh(Self.workload("PERMISSIVE", ["9090": "PERMISSIVE"])).policies("p") == [])
        #expect(Self.mesh(Self.workload("STRICT", ["9090": "PERMISSIVE"])).policies("p") == [Self.converted])
        let unset = Self.mesh(Self.workload(nil, ["9090": "STRICT"]))
        #expect(unset.policies("p") == [Self.converted])
        unset.set(Self.namespace("STRICT"))
        #expect(unset.policies("p") == [Self.strict] && unset.index.policies[Self.converted] == nil)
        let exempt = Self.mesh(Self.namespace("STRICT"), Self.workload(nil, ["9090": "PERMISSIVE"]))
        #expect(exempt.policies("p") == [Self.converted])
        exempt.set(Self.namespace("PERMISSIVE"))
        #expect(exempt.policies("p") == [] && exempt.index.policies[Self.converted] == nil)
    }

    @Test("59: a selector in the root namespace means nothing; DISABLE is permissive")
    func root() {
        #expect(
            Self.mesh(Make.peer("x", namespace: "istio-system", mode: "STRICT", selector: ["app": "a"])).policies("p")
                == [])
        #expect(Self.mesh(Self.root("STRICT"), Self.workload("DISABLE")).policies("p") == [])
    }

    @Test("60: beside an ALLOW policy")
    func both() {
        let mesh = Self.mesh(Self.root("STRICT"))
        mesh.set(Make.policy("sel", ["selector": ["matchLabels": ["app": "a"]], "rules": [[:]]]))
        #expect(mesh.policies("p") == ["ns1/sel", Self.strict])
    }

    @Test("63: several strict ports are one rule each")
    func golden() {
        let mesh = Self.mesh(Self.workload("PERMISSIVE", ["9091": "STRICT", "9090": "STRICT"]))
        let rules = mesh.index.policies[Self.converted]?.rules
        #expect(rules?.count == 2)
        #expect(rules?.map { $0.clauses[0].matches[0].destinationPorts } == [[9090], [9091]])
        #expect(rules?.allSatisfy { $0.clauses[0].matches[0].notPrincipals == [.presence] } == true)
    }

    @Test("a namespace object that leaves the mode open does not hide a strict mesh from an exemption")
    func openNamespace() {
        let mesh = Self.mesh(Self.root("STRICT"), Self.namespace(nil), Self.workload(nil, ["9090": "DISABLE"]))
        #expect(mesh.policies("p") == [Self.converted])
        let match = mesh.index.policies[Self.converted]?.rules.first?.clauses
        #expect(match?.count == 2)
    }
}
