import KubeAPI
import MeshCLI
import Testing

@Suite("martlet proxy-status")
struct ProxyStatusTests {
    private func type(_ url: String, sent: Int64 = 3, inSync: Bool = true, refusal: String = "") -> JSONValue {
        [
            "type": .string(url), "inSync": .bool(inSync), "sentRevision": .int(sent), "ackedRevision": 3,
            "resourcesSent": 1, "refusals": 0, "lastRefusal": .string(refusal),
        ]
    }

    private var status: ProxyStatus {
        var status = ProxyStatus()
        status.add(
            [
                [
                    "node": "ztunnel~10.42.0.3~ztunnel-x2.istio-system~istio-system.svc.cluster.local", "peer": "p",
                    "account": "istio-system/ztunnel",
                    "types": [
                        self.type("type.googleapis.com/istio.security.Authorization"),
                        self.type("type.googleapis.com/istio.workload.Address", inSync: false),
                    ],
                ],
                [
                    "node": "waypoint~10.42.0.9~w-1.shop~shop.svc.cluster.local", "peer": "p", "account": "shop/w",
                    "types": [
                        self.type("type.googleapis.com/istio.workload.Address", sent: 0),
                        self.type("type.googleapis.com/martlet.Rules", inSync: false, refusal: "bad"),
                    ],
                ],
            ], from: "istiod-1", namespace: nil)
        return status
    }

    @Test("33: shows who is subscribed to what")
    func table() {
        #expect(
            self.status.table.lines == [
                "NAME                        ISTIOD       SUBSCRIBED TYPES",
                "w-1.shop                    istiod-1     2 (WDS,Rules)",
                "ztunnel-x2.istio-system     istiod-1     2 (WDS,WADS)",
            ])
    }

    @Test("and with -v 1, who has what was sent")
    func details() {
        #expect(
            self.status.details.lines == [
                "NAME                        WDS          WADS        Rules       ISTIOD",
                "w-1.shop                    NOT SENT     IGNORED     ERROR       istiod-1",
                "ztunnel-x2.istio-system     STALE        SYNCED      IGNORED     istiod-1",
            ])
    }

    @Test("shows the streams of one proxy as one, but an old and a new one of the same as two")
    func streams() {
        func client(_ types: String...) -> JSONValue {
            [
                "node": "sidecar~10.0.0.1~a.foo~foo.svc.cluster.local",
                "types": .array(types.map { self.type("type.googleapis.com/\($0)") }),
            ]
        }
        var status = ProxyStatus()
        let names = client("istio.networking.nds.v1.NameTable")
        let envoy = client("envoy.config.cluster.v3.Cluster", "envoy.config.listener.v3.Listener")
        status.add(.array([names, envoy, envoy]), from: "i", namespace: nil)
        #expect(
            status.table.lines.dropFirst() == [
                "a.foo     i          3 (CDS,LDS,NDS)", "a.foo     i          2 (CDS,LDS)",
            ])
    }

    @Test("of one namespace when that was asked for")
    func namespace() {
        var status = ProxyStatus()
        status.add([["node": "w~1~w-1.shop~d", "types": []]], from: "i", namespace: "other")
        #expect(status.table.lines.count == 1)
    }
}
