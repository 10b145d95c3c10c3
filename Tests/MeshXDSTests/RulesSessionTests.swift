import MeshModel
import MeshProto
import MeshRoutes
import MeshXDS
import Testing

@Suite("A waypoint's stream, seen from the server")
struct RulesSessionTests {
    static let mine = NamespacedName(namespace: "ns", name: "w")
    static let other = NamespacedName(namespace: "ns", name: "x")

    static func key(_ name: String) -> NamespacedName { NamespacedName(namespace: "ns", name: "\(name).ns.svc") }

    static func rules(_ name: String, retries: UInt32 = 3, for waypoints: Set<NamespacedName>) -> EncodedResource {
        var rules = ServiceRules(key: Self.key(name))
        rules.balancing.retriesMin = retries
        return EncodedResource(rules, for: waypoints)
    }

    static func advance(_ snapshot: inout XDSSnapshot, _ resources: [EncodedResource], removed: [String] = []) {
        var changes: [String: EncodedResource?] = [:]
        for resource in resources { changes.updateValue(resource, forKey: resource.name) }
        for name in removed { changes.updateValue(nil, forKey: Self.key(name).description) }
        snapshot.advance([XDSType.serviceRules: changes])
    }

    static func session() -> XDSSession {
        var count = 0
        return XDSSession(for: .waypoint(Self.mine.description)) {
            count += 1
            return "n\(count)"
        }
    }

    @Test("72: a waypoint gets the rules of its services, as canary too, and of no other")
    func scope() throws {
        var snapshot = XDSSnapshot()
        Self.advance(
            &snapshot,
            [
                Self.rules("a", for: [Self.mine]), Self.rules("b", for: [Self.other]),
                Self.rules("c", for: [Self.other, Self.mine]),
            ])
        var session = Self.session()
        let first = try session.receive(SessionTests.request(XDSType.serviceRules), snapshot).responses
        #expect(first.map { $0.resources.map(\.name) } == [["ns/a.ns.svc", "ns/c.ns.svc"]])
        Self.advance(&snapshot, [Self.rules("b", retries: 9, for: [Self.other])])
        #expect(try session.push(snapshot).isEmpty, "not its business")
        Self.advance(&snapshot, [Self.rules("c", retries: 9, for: [Self.other, Self.mine])])
        #expect(try session.push(snapshot).map { $0.resources.map(\.name) } == [["ns/c.ns.svc"]])
    }

    @Test("73: a service that goes to another waypoint is gone for this one, and comes back")
    func moves() throws {
        var snapshot = XDSSnapshot()
        Self.advance(&snapshot, [Self.rules("a", for: [Self.mine])])
        var session = Self.session()
        _ = try session.receive(SessionTests.request(XDSType.serviceRules), snapshot)
        Self.advance(&snapshot, [Self.rules("a", for: [Self.other])])
        #expect(try session.push(snapshot).map(\.removedResources) == [["ns/a.ns.svc"]])
        Self.advance(&snapshot, [], removed: ["a"])
        #expect(try session.push(snapshot).isEmpty)
        Self.advance(&snapshot, [Self.rules("a", for: [Self.mine])])
        #expect(try session.push(snapshot).map { $0.resources.map(\.name) } == [["ns/a.ns.svc"]])
    }

    @Test("a reconnect hears what changed, what is gone, and what is another's now")
    func reconnect() throws {
        var snapshot = XDSSnapshot()
        let (same, new, moved) = (
            Self.rules("a", for: [Self.mine]), Self.rules("b", for: [Self.mine]), Self.rules("c", for: [Self.other])
        )
        Self.advance(&snapshot, [same, new, moved])
        var session = Self.session()
        let responses = try session.receive(
            SessionTests.request(XDSType.serviceRules) {
                $0.initialResourceVersions = [
                    "ns/a.ns.svc": same.version, "ns/c.ns.svc": moved.version, "ns/gone.ns.svc": "v",
                ]
            }, snapshot
        ).responses
        #expect(responses.map { $0.resources.map(\.name) } == [["ns/b.ns.svc"]])
        #expect(responses.map(\.removedResources) == [["ns/c.ns.svc", "ns/gone.ns.svc"]])
    }

    @Test("a node proxy gets no rules, a waypoint no layer-4 policies")
    func types() throws {
        var snapshot = XDSSnapshot()
        Self.advance(&snapshot, [Self.rules("a", for: [Self.mine])])
        var node = SessionTests.session()
        let asked = try node.receive(SessionTests.request(XDSType.serviceRules), snapshot)
        #expect(asked.responses.isEmpty && asked.note == .unknownType(XDSType.serviceRules))
        var waypoint = Self.session()
        let policies = try waypoint.receive(SessionTests.request(XDSType.authorization), snapshot)
        #expect(policies.responses.isEmpty && policies.note == .unknownType(XDSType.authorization))
    }

    @Test("services come before the rules that lead to them, and go after the rules that did")
    func order() throws {
        var snapshot = XDSSnapshot()
        SessionTests.advance(&snapshot, [SessionTests.service("old", vip: "10.1.0.1")])
        Self.advance(&snapshot, [Self.rules("a", for: [Self.mine])])
        var session = Self.session()
        for type in [XDSType.address, XDSType.serviceRules] {
            _ = try session.receive(SessionTests.request(type), snapshot)
        }
        SessionTests.advance(
            &snapshot, [SessionTests.service("new", vip: "10.1.0.2")], removed: ["ns/old.ns.svc"])
        Self.advance(&snapshot, [Self.rules("a", retries: 7, for: [Self.mine])])
        let pushed = try session.push(snapshot)
        #expect(pushed.map(\.typeURL) == [XDSType.address, XDSType.serviceRules, XDSType.address])
        #expect(pushed[0].resources.map(\.name) == ["ns/new.ns.svc"] && pushed[0].removedResources.isEmpty)
        #expect(pushed[2].resources.isEmpty && pushed[2].removedResources == ["ns/old.ns.svc"])
    }
}
