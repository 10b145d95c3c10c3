import KubeAPI
import MeshControl
import Testing

@Suite("Validation of Istio's kinds")
struct ConfigValidatorTests {
    private static func check(
        _ kind: String, _ spec: JSONValue, annotations: [String: String] = [:]
    ) -> ConfigValidator.Findings {
        let group =
            ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"].contains(kind)
            ? "security" : "networking"
        return ConfigValidator.check(
            KubeObject([
                "apiVersion": .string("\(group).istio.io/v1"), "kind": .string(kind),
                "metadata": ["name": "x", "namespace": "ns", "annotations": JSONValue(annotations)], "spec": spec,
            ]))
    }

    /// Kind, spec, the beginning of each complaint.
    static let faults: [(String, JSONValue, [String])] = [
        ("AuthorizationPolicy", ["action": "DENY"], ["spec.rules"]),
        ("AuthorizationPolicy", ["action": "CUSTOM", "rules": [[:]]], ["spec.provider.name"]),
        ("AuthorizationPolicy", ["provider": ["name": "x"], "rules": [[:]]], ["spec.provider"]),
        ("AuthorizationPolicy", ["rules": [["from": []]]], ["spec.rules[0].from"]),
        ("AuthorizationPolicy", ["rules": [["from": [["source": [:]]]]]], ["spec.rules[0].from[0].source"]),
        (
            "AuthorizationPolicy", ["rules": [["from": [["source": ["ipBlocks": ["1.2.3"]]]]]]],
            ["spec.rules[0].from[0].source.ipBlocks"]
        ),
        (
            "AuthorizationPolicy", ["rules": [["from": [["source": ["serviceAccounts": ["a/b/c"]]]]]]],
            ["spec.rules[0].from[0].source.serviceAccounts"]
        ),
        (
            "AuthorizationPolicy",
            ["rules": [["from": [["source": ["serviceAccounts": ["a"], "namespaces": ["n"]]]]]]],
            ["spec.rules[0].from[0].source"]
        ),
        (
            "AuthorizationPolicy", ["rules": [["to": [["operation": ["ports": ["http", "80"]]]]]]],
            ["spec.rules[0].to[0].operation.ports"]
        ),
        (
            "AuthorizationPolicy", ["rules": [["to": [["operation": ["paths": ["/{**}/{**}"]]]]]]],
            ["spec.rules[0].to[0].operation.paths"]
        ),
        (
            "AuthorizationPolicy", ["rules": [["when": [["key": "what", "values": ["x"]]]]]],
            ["spec.rules[0].when[0].key"]
        ),
        ("AuthorizationPolicy", ["rules": [["when": [["key": "source.ip"]]]]], ["spec.rules[0].when[0]"]),
        ("AuthorizationPolicy", ["rules": [[:]], "selector": ["matchLabels": ["a": "*"]]], ["spec.selector.a"]),
        (
            "AuthorizationPolicy",
            [
                "rules": [[:]], "selector": ["matchLabels": ["a": "b"]],
                "targetRefs": [["kind": "Service", "name": "s", "group": ""]],
            ], ["spec: only one"]
        ),
        (
            "AuthorizationPolicy", ["rules": [[:]], "targetRefs": [["kind": "Pod", "name": "s", "namespace": "n"]]],
            ["spec.targetRefs[0].namespace", "spec.targetRefs[0]:"]
        ),
        ("PeerAuthentication", ["portLevelMtls": ["80": ["mode": "STRICT"]]], ["spec.portLevelMtls"]),
        (
            "PeerAuthentication", ["selector": ["matchLabels": ["a": "b"]], "portLevelMtls": ["0": [:]]],
            ["spec.portLevelMtls"]
        ),
        (
            "RequestAuthentication", ["jwtRules": [["jwksUri": "ftp://x/"]]],
            ["spec.jwtRules[0].issuer", "spec.jwtRules[0].jwksUri"]
        ),
        ("ServiceEntry", ["hosts": [], "resolution": "NONE"], ["spec.hosts"]),
        ("ServiceEntry", ["hosts": ["*"], "resolution": "NONE"], ["spec.hosts"]),
        ("ServiceEntry", ["hosts": ["a.b"], "resolution": "DNS", "addresses": ["10.0.0.0/8"]], ["spec.addresses"]),
        (
            "ServiceEntry",
            [
                "hosts": ["a.b"],
                "ports": [["number": 80, "name": "a"], ["number": 80, "name": "a", "protocol": "WHAT"]],
            ], ["spec.ports[1].number", "spec.ports[1].name", "spec.ports[1].protocol"]
        ),
        (
            "ServiceEntry", ["hosts": ["a.b"], "resolution": "STATIC", "endpoints": [["address": "a.b"]]],
            ["spec.endpoints[0].address"]
        ),
        ("ServiceEntry", ["hosts": ["*.b"], "resolution": "DNS"], ["spec.hosts"]),
        ("ServiceEntry", ["hosts": ["a.b"], "resolution": "DYNAMIC_DNS"], ["spec.hosts"]),
        ("WorkloadEntry", ["ports": ["http": 99999]], ["spec.address", "spec.ports.http"]),
        ("DestinationRule", ["subsets": [["name": "a"], ["name": "a"]]], ["spec.host", "spec.subsets[1].name"]),
        (
            "VirtualService", ["hosts": ["a.b"], "http": [["route": [["weight": -1]]]]],
            ["spec.http[0].route[0].destination.host", "spec.http[0].route[0].weight"]
        ),
        (
            "Gateway", ["servers": [["port": ["number": 0, "protocol": "HTTP"]]]],
            ["spec.servers[0].port.number", "spec.servers[0].hosts"]
        ),
    ]

    @Test("names the place of each fault", arguments: Self.faults.indices)
    func refused(_ index: Int) {
        let (kind, spec, places) = Self.faults[index]
        let errors = Self.check(kind, spec).errors
        #expect(errors.count == places.count, "\(errors)")
        for (error, place) in zip(errors, places) { #expect(error.hasPrefix(place), "\(error)") }
    }

    @Test("lets through what can be followed")
    func accepted() {
        let good: [(String, JSONValue)] = [
            ("AuthorizationPolicy", [:]), ("AuthorizationPolicy", ["action": "DENY", "rules": [[:]]]),
            (
                "AuthorizationPolicy",
                [
                    "targetRefs": [["kind": "Service", "group": "", "name": "s"]],
                    "rules": [
                        [
                            "from": [["source": ["principals": ["*"], "ipBlocks": ["10.0.0.0/8", "::1"]]]],
                            "to": [["operation": ["ports": ["80"], "paths": ["/a/{*}/{**}", "/b/*"]]]],
                            "when": [["key": "request.headers[x-a]", "values": ["b"]]],
                        ]
                    ],
                ]
            ),
            ("PeerAuthentication", ["mtls": ["mode": "STRICT"]]),
            ("RequestAuthentication", ["jwtRules": [["issuer": "me", "jwksUri": "https://x/keys"]]]),
            (
                "ServiceEntry",
                [
                    "hosts": ["*.example.com"], "resolution": "NONE",
                    "ports": [["number": 443, "name": "tls", "protocol": "TLS"]],
                ]
            ),
            (
                "ServiceEntry",
                [
                    "hosts": ["a.b"], "resolution": "STATIC", "addresses": ["10.0.0.0/8"],
                    "endpoints": [["address": "10.1.1.1", "ports": ["p": 80]]], "ports": [["number": 80, "name": "p"]],
                ]
            ),
            (
                "DestinationRule",
                ["host": "web.ns.svc.cluster.local", "trafficPolicy": ["tls": ["mode": "ISTIO_MUTUAL"]]]
            ),
            ("VirtualService", ["hosts": ["*"], "http": [["redirect": ["uri": "/"]]]]),
            (
                "Gateway",
                [
                    "selector": ["istio": "ingress"],
                    "servers": [["port": ["number": 80, "protocol": "HTTP"], "hosts": ["ns/*.a.b"]]],
                ]
            ),
        ]
        for (kind, spec) in good {
            #expect(Self.check(kind, spec).errors.isEmpty, "\(kind) \(spec): \(Self.check(kind, spec).errors)")
        }
    }

    @Test("warns of a DENY by what only HTTP has, and of a dry run without meaning")
    func warnings() {
        let http: JSONValue = ["action": "DENY", "rules": [["to": [["operation": ["methods": ["GET"]]]]]]]
        #expect(Self.check("AuthorizationPolicy", http).warnings.count == 1)
        #expect(Self.check("AuthorizationPolicy", http).errors.isEmpty)
        let dry = Self.check(
            "AuthorizationPolicy", ["action": "AUDIT", "rules": [[:]]], annotations: ["istio.io/dry-run": "maybe"])
        #expect(dry.errors.count == 2, "\(dry.errors)")
    }
}
