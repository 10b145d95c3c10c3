import MeshProto
import MeshXDS
import Testing

@Suite("An Envoy's stream, seen from the server")
struct EnvoySessionTests {
    private var set = EnvoyResourceSet()
    private var session: EnvoySession

    init() {
        var count = 0
        self.session = EnvoySession {
            count += 1
            return "n\(count)"
        }
    }

    private mutating func put(_ type: String, _ names: [String], _ content: String = "1") {
        var changes: [EnvoyResourceSet.Name: EncodedResource?] = [:]
        for name in names {
            changes.updateValue(
                EncodedResource(type: type, name: name, bytes: Array(content.utf8)),
                forKey: .init(type: type, name: name))
        }
        self.set.advance(changes)
    }

    private mutating func remove(_ type: String, _ names: [String]) {
        var changes: [EnvoyResourceSet.Name: EncodedResource?] = [:]
        for name in names { changes.updateValue(nil, forKey: .init(type: type, name: name)) }
        self.set.advance(changes)
    }

    private mutating func ask(
        _ type: String, _ names: [String] = [], dropping: [String] = [], has: [String: String] = [:]
    ) throws -> [String] {
        let request = EnvoySession.Request.with {
            $0.node.id = "waypoint~10.0.0.1~w.ns~ns.svc.cluster.local"
            $0.typeURL = type
            $0.resourceNamesSubscribe = names
            $0.resourceNamesUnsubscribe = dropping
            $0.initialResourceVersions = has
        }
        return Self.text(try self.session.receive(request, self.set).responses)
    }

    private mutating func pushed() -> [String] { Self.text(self.session.push(self.set)) }

    /// `cluster a b -c`
    private static func text(_ responses: [EnvoySession.Response]) -> [String] {
        responses.map { response in
            let kinds = [
                XDSType.cluster: "cluster", XDSType.endpoints: "endpoints", XDSType.listener: "listener",
                XDSType.routes: "routes", XDSType.extensionConfig: "extension",
            ]
            return
                ([kinds[response.typeURL] ?? response.typeURL] + response.resources.map(\.name)
                + response.removedResources.map { "-\($0)" }).joined(separator: " ")
        }
    }

    @Test("clusters and listeners come all, endpoints and routes by name, and each first question is answered")
    mutating func subscriptions() throws {
        self.put(XDSType.cluster, ["a", "b"])
        self.put(XDSType.endpoints, ["a", "b"])
        #expect(try self.ask(XDSType.cluster) == ["cluster a b"])
        #expect(try self.ask(XDSType.endpoints, ["b", "x"]) == ["endpoints b -x"], "absence is said")
        #expect(try self.ask(XDSType.listener) == ["listener"])
        self.put(XDSType.endpoints, ["a", "x"], "2")
        #expect(self.pushed() == ["endpoints x"], "a was not asked for")
    }

    @Test("what is new comes from the bottom up, what is gone goes behind it from the top down")
    mutating func order() throws {
        self.put(XDSType.cluster, ["old"])
        self.put(XDSType.listener, ["gone"])
        for type in [XDSType.cluster, XDSType.listener] { _ = try self.ask(type) }
        _ = try self.ask(XDSType.endpoints, ["new"])
        _ = try self.ask(XDSType.routes, ["r"])
        var changes: [EnvoyResourceSet.Name: EncodedResource?] = [:]
        for (type, name) in [
            (XDSType.routes, "r"), (XDSType.listener, "l"), (XDSType.listener, "connect_originate|who"),
            (XDSType.endpoints, "new"), (XDSType.cluster, "new"),
        ] {
            changes.updateValue(
                EncodedResource(type: type, name: name, bytes: [1]), forKey: .init(type: type, name: name))
        }
        for (type, name) in [(XDSType.cluster, "old"), (XDSType.listener, "gone")] {
            changes.updateValue(nil, forKey: .init(type: type, name: name))
        }
        self.set.advance(changes)
        #expect(
            self.pushed() == [
                "cluster new", "listener connect_originate|who", "endpoints new", "listener l", "routes r",
                "listener -gone", "cluster -old",
            ])
    }

    @Test("parts of listeners come by name, before what they are parts of, and go behind it")
    mutating func extensions() throws {
        self.put(XDSType.extensionConfig, ["tokens", "other"])
        self.put(XDSType.listener, ["l"])
        #expect(try self.ask(XDSType.listener) == ["listener l"])
        #expect(try self.ask(XDSType.extensionConfig, ["tokens"]) == ["extension tokens"])
        self.put(XDSType.extensionConfig, ["tokens", "other"], "2")
        self.put(XDSType.listener, ["l"], "2")
        #expect(self.pushed() == ["extension tokens", "listener l"])
        self.remove(XDSType.extensionConfig, ["tokens"])
        self.remove(XDSType.listener, ["l"])
        #expect(self.pushed() == ["listener -l", "extension -tokens"])
        #expect(try self.ask(XDSType.extensionConfig, dropping: ["tokens"]) == [])
        self.put(XDSType.extensionConfig, ["tokens"], "3")
        #expect(self.pushed().isEmpty)
        #expect(try self.ask(XDSType.extensionConfig, ["tokens", "none"]) == ["extension tokens -none"])
    }

    @Test("a reconnect hears of changed parts of listeners only")
    mutating func extensionsAgain() throws {
        self.put(XDSType.extensionConfig, ["tokens"])
        let version = EncodedResource(type: XDSType.extensionConfig, name: "tokens", bytes: Array("1".utf8)).version
        #expect(try self.ask(XDSType.extensionConfig, ["tokens"], has: ["tokens": version]) == ["extension"])
        self.put(XDSType.extensionConfig, ["tokens"], "2")
        #expect(self.pushed() == ["extension tokens"])
    }

    @Test("a changed cluster gets its endpoints again, for it waits for them")
    mutating func warming() throws {
        self.put(XDSType.cluster, ["a", "b"])
        self.put(XDSType.endpoints, ["a", "b"])
        _ = try self.ask(XDSType.cluster)
        _ = try self.ask(XDSType.endpoints, ["a", "b"])
        self.put(XDSType.cluster, ["a"], "2")
        #expect(self.pushed() == ["cluster a", "endpoints a"])
        self.put(XDSType.endpoints, ["c"])
        #expect(self.pushed().isEmpty)
        self.put(XDSType.cluster, ["c"])
        #expect(self.pushed() == ["cluster c", "endpoints c"], "a new one need not ask first")
    }

    @Test("a reconnect hears what changed and what is gone")
    mutating func reconnect() throws {
        self.put(XDSType.cluster, ["same", "new"])
        let version = EncodedResource(type: XDSType.cluster, name: "same", bytes: Array("1".utf8)).version
        #expect(
            try self.ask(XDSType.cluster, has: ["same": version, "new": "x", "gone": "x"]) == ["cluster new -gone"])
    }

    @Test("who asks again is told again, and who wants it no more is not")
    mutating func again() throws {
        self.put(XDSType.routes, ["r"])
        _ = try self.ask(XDSType.routes, ["r"])
        #expect(try self.ask(XDSType.routes, ["r"]) == ["routes r"])
        #expect(try self.ask(XDSType.routes, dropping: ["r"]) == [])
        self.put(XDSType.routes, ["r"], "2")
        #expect(self.pushed().isEmpty)
    }

    @Test("a refusal is noted, and the same content does not come again")
    mutating func refusal() throws {
        self.put(XDSType.cluster, ["a"])
        _ = try self.ask(XDSType.cluster)
        let refusal = EnvoySession.Request.with {
            $0.typeURL = XDSType.cluster
            $0.responseNonce = "n1"
            $0.errorDetail.message = "no such policy"
        }
        let answer = try self.session.receive(refusal, self.set)
        #expect(answer.responses.isEmpty)
        #expect(answer.note == .refused(type: XDSType.cluster, reason: "no such policy"))
        self.put(XDSType.cluster, ["b"])
        #expect(self.pushed() == ["cluster b"])
        #expect(self.session.types[XDSType.cluster]?.refusals == 1)
    }

    @Test("who is further behind than is remembered is compared with everything")
    mutating func farBehind() throws {
        self.put(XDSType.cluster, ["a", "b"])
        _ = try self.ask(XDSType.cluster)
        for round in 0...5000 { self.put(XDSType.cluster, ["a"], "\(round)") }
        self.remove(XDSType.cluster, ["b"])
        #expect(self.pushed() == ["cluster a", "cluster -b"])
    }

    @Test("types of the mesh's own are not for Envoy")
    mutating func foreign() throws {
        let request = EnvoySession.Request.with {
            $0.node.id = "waypoint~10.0.0.1~w.ns~ns.svc.cluster.local"
            $0.typeURL = XDSType.address
        }
        #expect(try self.session.receive(request, self.set).note == .unknownType(XDSType.address))
    }

    @Test("of several parts the last one's word counts, and each change is told once, wherever it was")
    mutating func layers() throws {
        func change(_ set: inout EnvoyResourceSet, _ name: String, _ content: String?) {
            let resource = content.map {
                EncodedResource(type: XDSType.routes, name: name, bytes: Array($0.utf8))
            }
            set.advance([.init(type: XDSType.routes, name: name): resource])
        }
        var (common, own) = (EnvoyResourceSet(), EnvoyResourceSet())
        change(&common, "80", "1")
        change(&common, "90", "1")
        let request = EnvoySession.Request.with {
            $0.node.id = "sidecar~10.0.0.1~a.ns~ns.svc.cluster.local"
            $0.typeURL = XDSType.routes
            $0.resourceNamesSubscribe = ["80", "90"]
        }
        let first = try self.session.receive(request, EnvoyResourceLayers([common, own])).responses
        #expect(Self.text(first) == ["routes 80 90"])
        func pushed() -> [String] { Self.text(self.session.push(EnvoyResourceLayers([common, own]))) }
        change(&own, "80", "2")
        #expect(pushed() == ["routes 80"])
        change(&common, "80", "3")
        #expect(pushed().isEmpty, "nobody sees it")
        change(&own, "80", nil)
        #expect(pushed() == ["routes 80"], "now it is seen")
        change(&common, "90", nil)
        #expect(pushed() == ["routes -90"])
        own = EnvoyResourceSet()
        #expect(pushed().isEmpty, "a part that began anew is compared whole")
    }
}
