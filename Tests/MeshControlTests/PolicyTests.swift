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
        #expect(outcome.policy == nil && outcome.condition == nil)
    }

    @Test("51: layer 4 only is accepted; scope by selector and namespace")
    func scopes() {
        let rules: JSONValue = [["from": [["source": ["namespaces": ["a"]]]]]]
        let plain = Self.convert(["rules": rules])
        #expect(plain.condition?.isTrue == true && plain.condition?.reason == "Accepted")
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
        #expect(outcome.condition?.isTrue == false && outcome.condition?.reason == "UnsupportedValue")
    }

    @Test("dry run is refused unless it is switched on")
    func dryRun() {
        let annotations = ["istio.io/dry-run": "true"]
        #expect(Self.convert(["rules": [[:]]], annotations: annotations).condition?.isTrue == false)
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
        #expect(outcome.condition?.reason == "UnsupportedValue" && outcome.condition?.isTrue == true)
        #expect(outcome.condition?.message.contains("(found: methods)") == true)
    }

    @Test("54: a DENY keeps its layer-4 remainder; a part without any never matches")
    func denyWithHTTP() {
        let purely = Self.convert(["action": "DENY", "rules": [["to": [["operation": ["paths": ["/x"]]]]]]])
        #expect(purely.policy?.rules.count == 1 && purely.condition?.message.contains("no effect") == true)
        let mixed = Self.convert([
            "action": "DENY",
            "rules": [["from": [["source": ["namespaces": ["a"]]]]], ["to": [["operation": ["paths": ["/x"]]]]]],
        ])
        #expect(mixed.condition?.message.contains("enforced without them") == true)
        let always = Self.convert(["action": "DENY", "rules": [[:], ["to": [["operation": ["paths": ["/x"]]]]]]])
        #expect(always.condition?.message.contains("enforced without them") == true)
        let sameRule = Self.convert([
            "action": "DENY",
            "rules": [
                [
                    "from": [["source": ["namespaces": ["a"]]]],
                    "when": [["key": "request.headers[x]", "values": ["y"]]],
                ]
            ],
        ])
        #expect(sameRule.condition?.message.contains("no effect") == true)
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
        #expect(outcome.condition?.reason == "Accepted")
    }

    @Test("a trust domain cannot be checked, so it must not widen an ALLOW")
    func trustDomains() {
        let outcome = Self.convert([
            "rules": [["from": [["source": ["namespaces": ["a"], "trustDomains": ["other"]]]]]]
        ])
        #expect(outcome.policy?.rules.isEmpty == true)
        #expect(outcome.condition?.message.contains("trustDomains") == true)
    }

    static func from(_ source: JSONValue, action: String = "ALLOW", to: JSONValue? = nil)
        -> AuthorizationConverter.Outcome
    {
        var rule: JSONValue = ["from": [["source": source]]]
        if let to { rule["to"] = [["operation": to]] }
        return Self.convert(["action": .string(action), "rules": [rule]])
    }

    @Test("unreadable values in an ALLOW allow nothing; readable ones beside them stay")
    func unreadableAllow() {
        let outcome = Self.from(["ipBlocks": ["nonsense"]])
        #expect(outcome.policy?.rules.isEmpty == true)
        #expect(outcome.condition?.isTrue == false && outcome.condition?.reason == "Invalid")
        let partly = Self.from(["ipBlocks": ["nonsense", "10.0.0.0/8"]])
        #expect(partly.policy?.rules.first?.clauses.first?.matches.first?.sourceIPs == [CIDR("10.0.0.0/8")!])
        #expect(partly.condition?.isTrue == false)
        // Whom the exception meant cannot be known, so nobody is let in by it.
        #expect(Self.from(["namespaces": ["a"], "notIpBlocks": ["nonsense"]]).policy?.rules.isEmpty == true)
        // One bad element of a list leaves the others.
        let two = Self.convert([
            "rules": [["from": [["source": ["ipBlocks": ["x"]]], ["source": ["namespaces": ["a"]]]]]]
        ])
        #expect(two.policy?.rules.first?.clauses.first?.matches.map(\.namespaces) == [[.exact("a")]])
    }

    @Test("unreadable values in a DENY may be anything: the rest of the rule still narrows it")
    func unreadableDeny() {
        let all = Self.from(["ipBlocks": ["nonsense", "10.0.0.0/8"]], action: "DENY")
        #expect(all.policy?.rules == [.init(clauses: [])])
        #expect(all.condition?.reason == "Invalid" && all.condition?.message.contains("ipBlocks nonsense") == true)
        let port = Self.from(["ipBlocks": ["nonsense"]], action: "DENY", to: ["ports": ["80"]])
        var match = AuthorizationPolicy.Match()
        match.destinationPorts = [80]
        #expect(port.policy?.rules == [.init(clauses: [.init(matches: [match])])])
        // An exception that cannot be read excepts nobody; the others stay.
        let except = Self.from(["notIpBlocks": ["nonsense", "10.0.0.0/8"]], action: "DENY")
        #expect(except.policy?.rules.first?.clauses.first?.matches.first?.notSourceIPs == [CIDR("10.0.0.0/8")!])
        #expect(Self.from(["notIpBlocks": ["nonsense"]], action: "DENY").policy?.rules == [.init(clauses: [])])
    }

    @Test(
        "what counts as unreadable",
        arguments: [
            #"{"principals": [""]}"#, #"{"principals": ["a*b"]}"#, #"{"namespaces": ["*a*"]}"#,
            #"{"serviceAccounts": ["*"]}"#, #"{"serviceAccounts": ["a/b/c"]}"#, #"{"serviceAccounts": ["/b"]}"#,
            #"{"ipBlocks": ["10.0.0.0/33"]}"#, #"{"ipBlocks": ["::ffff:10.0.0.0/104"]}"#, #"{}"#,
            #"{"principals": []}"#,
        ])
    func unreadable(source: String) throws {
        let source = try JSONValue(parsing: source)
        #expect(Self.from(source).policy?.rules.isEmpty == true)
        #expect(Self.from(source, action: "DENY").policy?.rules == [.init(clauses: [])])
    }

    @Test("ports are plain numbers", arguments: ["65536", "-1", "+80", "http", ""])
    func ports(port: String) {
        let rule: JSONValue = ["to": [["operation": ["ports": [.string(port)]]]]]
        #expect(Self.convert(["rules": [rule]]).policy?.rules.isEmpty == true)
        #expect(Self.convert(["action": "DENY", "rules": [rule]]).policy?.rules == [.init(clauses: [])])
    }

    @Test("a when without values is unreadable; a key that needs a request is not supported")
    func when() {
        let open = Self.convert(["action": "DENY", "rules": [["when": [["key": "source.ip"]]]]])
        #expect(open.policy?.rules == [.init(clauses: [])] && open.condition?.reason == "Invalid")
        for key in ["remote.ip", "connection.sni", "source.trustDomain", "request.auth.claims[a]"] {
            let outcome = Self.convert(["rules": [["when": [["key": .string(key), "values": ["x"]]]]]])
            #expect(outcome.policy?.rules.isEmpty == true && outcome.condition?.message.contains(key) == true)
        }
    }

    @Test("remote addresses need a request's headers: reported, with the rule's number")
    func remoteBlocks() {
        let outcome = Self.convert([
            "rules": [[:], ["from": [["source": ["remoteIpBlocks": ["10.0.0.0/8"]]]]]]
        ])
        #expect(outcome.policy?.rules.count == 1)
        #expect(outcome.condition?.message.contains("(found: remoteIpBlocks)") == true)
        #expect(outcome.condition?.message.contains("counted from 0: 1.") == true)
    }

    @Test("a dry-run word that is no boolean: the policy is enforced, and the status says so")
    func dryRunWord() {
        let outcome = Self.convert(["action": "DENY", "rules": [[:]]], annotations: ["istio.io/dry-run": "yes"])
        #expect(outcome.policy?.isDryRun == false && outcome.condition?.message.contains("\"yes\"") == true)
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
