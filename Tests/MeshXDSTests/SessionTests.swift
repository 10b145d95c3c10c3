import MeshModel
import MeshProto
import MeshXDS
import Testing

@Suite("A delta stream, seen from the server")
struct SessionTests {
    static func workload(_ name: String, ip: String, node: String = "", service: String? = nil) -> MeshAddress {
        var workload = Workload(uid: "c//Pod/ns/\(name)")
        workload.name = name
        workload.addresses = [IPAddress(ip)!]
        workload.node = node
        if let service { workload.services = [NamespacedName(service)!: []] }
        return .workload(workload)
    }

    static func service(_ name: String, vip: String) -> MeshAddress {
        var service = MeshModel.Service(name: name, namespace: "ns", hostname: "\(name).ns.svc")
        service.addresses = [NetworkAddress(network: "", address: IPAddress(vip)!)]
        return .service(service)
    }

    static func advance(_ snapshot: inout XDSSnapshot, _ upserts: [MeshAddress], removed: [String] = []) {
        var changes: [String: EncodedResource?] = [:]
        for address in upserts { changes.updateValue(EncodedResource(address), forKey: address.resourceName) }
        for name in removed { changes.updateValue(nil, forKey: name) }
        snapshot.advance([XDSType.address: changes])
    }

    static func session() -> XDSSession {
        var count = 0
        return XDSSession {
            count += 1
            return "n\(count)"
        }
    }

    static func request(
        _ type: String = XDSType.address, _ change: (inout XDSSession.Request) -> Void = { _ in }
    ) -> XDSSession.Request {
        var request = XDSSession.Request()
        request.node.id = "ztunnel~1.1.1.1~z.istio-system~istio-system.svc.cluster.local"
        request.typeURL = type
        change(&request)
        return request
    }

    @Test("68: wildcard gets all, then only what changed, then removals")
    func wildcard() throws {
        var snapshot = XDSSnapshot()
        Self.advance(&snapshot, [Self.workload("a", ip: "10.0.0.1"), Self.service("s", vip: "10.1.0.1")])
        var session = Self.session()
        let first = try session.receive(Self.request(), snapshot).responses
        #expect(first.map { Set($0.resources.map(\.name)) } == [["c//Pod/ns/a", "ns/s.ns.svc"]])
        #expect(first[0].resources.allSatisfy { $0.aliases.isEmpty })
        // What a text holds without an allocation.
        #expect(first[0].resources.allSatisfy { $0.version.utf8.count == 15 })
        #expect(try session.push(snapshot).isEmpty)
        Self.advance(&snapshot, [Self.workload("b", ip: "10.0.0.2")])
        #expect(try session.push(snapshot).map { $0.resources.map(\.name) } == [["c//Pod/ns/b"]])
        Self.advance(&snapshot, [], removed: ["c//Pod/ns/b"])
        #expect(try session.push(snapshot).map(\.removedResources) == [["c//Pod/ns/b"]])
        // Came and went between two pushes: the client never knew it.
        Self.advance(&snapshot, [Self.workload("x", ip: "10.0.0.9")])
        Self.advance(&snapshot, [], removed: ["c//Pod/ns/x"])
        #expect(try session.push(snapshot).isEmpty)
    }

    @Test("69: a reconnect sends only differences")
    func reconnect() throws {
        var snapshot = XDSSnapshot()
        let (a, b) = (Self.workload("a", ip: "10.0.0.1"), Self.workload("b", ip: "10.0.0.2"))
        Self.advance(&snapshot, [a, b])
        var session = Self.session()
        let response = try session.receive(
            Self.request {
                $0.initialResourceVersions = [
                    "c//Pod/ns/a": EncodedResource(a).version, "c//Pod/ns/b": "old", "c//Pod/ns/gone": "v",
                ]
            }, snapshot
        ).responses[0]
        #expect(response.resources.map(\.name) == ["c//Pod/ns/b"])
        #expect(response.removedResources == ["c//Pod/ns/gone"])
    }

    @Test("65: subscribe and unsubscribe everything: an empty answer, then only the own node's pods")
    func onDemandStart() throws {
        var snapshot = XDSSnapshot()
        Self.advance(&snapshot, [Self.workload("old", ip: "10.0.0.1", node: "other")])
        var session = Self.session()
        let response = try session.receive(
            Self.request {
                $0.resourceNamesSubscribe = ["*"]
                $0.resourceNamesUnsubscribe = ["*"]
                $0.node.metadata.fields["NODE_NAME"] = .init(stringValue: "mine")
            }, snapshot
        ).responses
        #expect(response.count == 1 && response[0].resources.isEmpty && response[0].removedResources.isEmpty)
        Self.advance(&snapshot, [Self.workload("far", ip: "10.0.0.2", node: "other")])
        #expect(try session.push(snapshot).isEmpty)
        Self.advance(&snapshot, [Self.workload("near", ip: "10.0.0.3", node: "mine")])
        #expect(try session.push(snapshot).map { $0.resources.map(\.name) } == [["c//Pod/ns/near"]])
    }

    @Test("66, 67: on demand by address: the workload, a removal for the unknown, a service with its endpoints")
    func onDemandNames() throws {
        var snapshot = XDSSnapshot()
        Self.advance(
            &snapshot,
            [
                Self.service("s", vip: "10.1.0.1"), Self.workload("a", ip: "10.0.0.1", service: "ns/s.ns.svc"),
                Self.workload("z", ip: "10.0.0.9"),
            ])
        var session = Self.session()
        _ = try session.receive(
            Self.request {
                $0.resourceNamesSubscribe = ["*"]
                $0.resourceNamesUnsubscribe = ["*"]
            }, snapshot)
        func ask(_ name: String) throws -> XDSSession.Response {
            try session.receive(Self.request { $0.resourceNamesSubscribe = [name] }, snapshot).responses[0]
        }
        let byIP = try ask("/10.0.0.9")
        #expect(byIP.resources.map(\.name) == ["c//Pod/ns/z"] && byIP.resources[0].aliases == ["/10.0.0.9"])
        #expect(try ask("/10.9.9.9").removedResources == ["/10.9.9.9"])
        #expect(try ask("/10.1.0.1").resources.map(\.name) == ["c//Pod/ns/a", "ns/s.ns.svc"])
        // What was unknown is sent when it appears, and so is a new endpoint of the service.
        Self.advance(
            &snapshot,
            [Self.workload("new", ip: "10.9.9.9"), Self.workload("b", ip: "10.0.0.2", service: "ns/s.ns.svc")])
        #expect(try session.push(snapshot).map { $0.resources.map(\.name) } == [["c//Pod/ns/b", "c//Pod/ns/new"]])
    }

    @Test("on demand: the own node's pods come once, and a pod that moves is found under its new address only")
    func onDemandIndexes() throws {
        var snapshot = XDSSnapshot()
        Self.advance(
            &snapshot,
            [Self.workload("near", ip: "10.0.0.1", node: "mine"), Self.workload("far", ip: "10.0.0.2", node: "other")])
        var session = Self.session()
        let first = try session.receive(
            Self.request {
                $0.resourceNamesSubscribe = ["/10.0.0.2"]
                $0.node.metadata.fields["NODE_NAME"] = .init(stringValue: "mine")
            }, snapshot
        ).responses
        #expect(first.map { $0.resources.map(\.name) } == [["c//Pod/ns/far", "c//Pod/ns/near"]])
        func ask(_ name: String) throws -> XDSSession.Response {
            try session.receive(Self.request { $0.resourceNamesSubscribe = [name] }, snapshot).responses[0]
        }
        Self.advance(&snapshot, [Self.workload("far", ip: "10.0.0.3", node: "mine")])
        #expect(try session.push(snapshot).map { $0.resources.map(\.name) } == [["c//Pod/ns/far"]])
        #expect(try ask("/10.0.0.2").removedResources == ["/10.0.0.2"])
        #expect(try ask("/10.0.0.3").resources.map(\.name) == ["c//Pod/ns/far"])
        Self.advance(&snapshot, [], removed: ["c//Pod/ns/far"])
        #expect(try session.push(snapshot).map(\.removedResources) == [["c//Pod/ns/far"]])
        #expect(try ask("/10.0.0.3").removedResources == ["/10.0.0.3"])
    }

    @Test("a client may turn from some resources to all, and back")
    func turning() throws {
        var snapshot = XDSSnapshot()
        Self.advance(&snapshot, [Self.workload("a", ip: "10.0.0.1"), Self.workload("b", ip: "10.0.0.2")])
        var session = Self.session()
        _ = try session.receive(Self.request { $0.resourceNamesSubscribe = ["/10.0.0.1"] }, snapshot)
        let all = try session.receive(Self.request { $0.resourceNamesSubscribe = ["*"] }, snapshot).responses
        #expect(all.map { Set($0.resources.map(\.name)) } == [["c//Pod/ns/a", "c//Pod/ns/b"]])
        Self.advance(&snapshot, [Self.workload("c", ip: "10.0.0.3")])
        #expect(try session.push(snapshot).map { $0.resources.map(\.name) } == [["c//Pod/ns/c"]])
        #expect(try session.receive(Self.request { $0.resourceNamesUnsubscribe = ["*"] }, snapshot).responses.isEmpty)
        Self.advance(&snapshot, [Self.workload("d", ip: "10.0.0.4")])
        #expect(try session.push(snapshot).isEmpty)
    }

    @Test("on demand again with versions: only what differs; what is gone is said")
    func onDemandReconnect() throws {
        var snapshot = XDSSnapshot()
        let (a, b) = (Self.workload("a", ip: "10.0.0.1"), Self.workload("b", ip: "10.0.0.2"))
        Self.advance(&snapshot, [a, b, Self.workload("c", ip: "10.0.0.3")])
        var session = Self.session()
        let response = try session.receive(
            Self.request {
                $0.resourceNamesSubscribe = ["*"]
                $0.resourceNamesUnsubscribe = ["*"]
                $0.initialResourceVersions = [
                    "c//Pod/ns/a": EncodedResource(a).version, "c//Pod/ns/b": "old", "c//Pod/ns/gone": "v",
                ]
            }, snapshot
        ).responses[0]
        #expect(response.resources.map(\.name) == ["c//Pod/ns/b"])
        #expect(response.removedResources == ["c//Pod/ns/gone"])
    }

    @Test("policies have versions too: a reconnect brings those that changed")
    func policyVersions() throws {
        var snapshot = XDSSnapshot()
        func policy(_ name: String, _ action: AuthorizationPolicy.Action) -> EncodedResource {
            EncodedResource(
                AuthorizationPolicy(
                    key: NamespacedName(namespace: "n", name: name), scope: .namespace, action: action, rules: []))
        }
        snapshot.advance([XDSType.authorization: ["n/a": policy("a", .allow), "n/b": policy("b", .deny)]])
        var session = Self.session()
        let response = try session.receive(
            Self.request(XDSType.authorization) {
                $0.initialResourceVersions = [
                    "n/a": policy("a", .allow).version, "n/b": policy("b", .allow).version, "n/c": "v",
                ]
            }, snapshot
        ).responses[0]
        #expect(response.resources.map(\.name) == ["n/b"] && response.removedResources == ["n/c"])
    }

    @Test("a client that is too far behind has to start over; one that is not hears everything once")
    func memory() throws {
        var snapshot = XDSSnapshot()
        Self.advance(&snapshot, [Self.workload("a", ip: "10.0.0.1")])
        let early = snapshot.revision
        for _ in 0..<50 {
            var changes: [String: EncodedResource?] = [:]
            for number in 0..<1000 { changes.updateValue(nil, forKey: "never-\(number)") }
            snapshot.advance([XDSType.address: changes])
        }
        let difference = snapshot.difference(XDSType.address, since: early)
        #expect(difference?.isEmpty == true, "what never existed is no removal")
        Self.advance(&snapshot, [Self.workload("b", ip: "10.0.0.2")])
        #expect(snapshot.difference(XDSType.address, since: early)?.upserted.map(\.name) == ["c//Pod/ns/b"])
        for _ in 0..<200 {
            var changes: [String: EncodedResource?] = [:]
            for number in 0..<1000 { changes.updateValue(nil, forKey: "never-\(number)") }
            snapshot.advance([XDSType.address: changes])
        }
        #expect(snapshot.difference(XDSType.address, since: early) == nil)
        #expect(snapshot.difference(XDSType.address, since: snapshot.revision)?.isEmpty == true)
    }

    @Test("ACK, NACK and stale answers are told apart; none is answered")
    func answers() throws {
        let snapshot = XDSSnapshot()
        var session = Self.session()
        let first = try session.receive(Self.request(), snapshot).responses[0]
        let ack = try session.receive(Self.request { $0.responseNonce = first.nonce }, snapshot)
        #expect(ack.responses.isEmpty && ack.note == .acknowledged(type: XDSType.address))
        let stale = try session.receive(Self.request { $0.responseNonce = "another" }, snapshot)
        #expect(stale.responses.isEmpty && stale.note == .staleNonce(type: XDSType.address))
        var moved = snapshot
        Self.advance(&moved, [Self.workload("a", ip: "10.0.0.1")])
        let second = try session.push(moved)[0]
        let nack = try session.receive(
            Self.request {
                $0.responseNonce = second.nonce
                $0.errorDetail.message = "no"
            }, moved)
        #expect(nack.responses.isEmpty && nack.note == .refused(type: XDSType.address, reason: "no"))
        #expect(try session.push(moved).isEmpty)
        #expect(session.types[XDSType.address]?.lastRefusal == "no")
    }

    @Test("new policies come before the workloads that name them, and leave after")
    func order() throws {
        var snapshot = XDSSnapshot()
        var session = Self.session()
        _ = try session.receive(Self.request(), snapshot)
        _ = try session.receive(Self.request(XDSType.authorization), snapshot)
        let policy = AuthorizationPolicy(
            key: NamespacedName(namespace: "n", name: "p"), scope: .workloadSelector, action: .deny, rules: [])
        let workload = Self.workload("a", ip: "10.0.0.1")
        snapshot.advance([
            XDSType.address: [workload.resourceName: EncodedResource(workload)],
            XDSType.authorization: ["n/p": EncodedResource(policy)],
        ])
        #expect(try session.push(snapshot).map(\.typeURL) == [XDSType.authorization, XDSType.address])
        snapshot.advance([
            XDSType.address: [workload.resourceName: EncodedResource?.none],
            XDSType.authorization: ["n/p": EncodedResource?.none],
        ])
        #expect(try session.push(snapshot).map(\.typeURL) == [XDSType.address, XDSType.authorization])
    }

    @Test("a first request without a node is refused")
    func noNode() {
        var session = Self.session()
        #expect(throws: XDSSession.Ending.missingNode) {
            try session.receive(.with { $0.typeURL = XDSType.address }, XDSSnapshot())
        }
    }

    @Test("equal content has an equal version, whatever the order of its maps")
    func versions() {
        var workload = Workload(uid: "u")
        for number in 0..<50 {
            workload.services[NamespacedName(namespace: "n", name: "h\(number)")] = [
                ServicePort(port: 1, targetPort: 2)
            ]
        }
        var other = Workload(uid: "u")
        for number in (0..<50).reversed() {
            other.services[NamespacedName(namespace: "n", name: "h\(number)")] = [ServicePort(port: 1, targetPort: 2)]
        }
        #expect(EncodedResource(.workload(workload)).version == EncodedResource(.workload(other)).version)
        other.capacity = 2
        #expect(EncodedResource(.workload(workload)).version != EncodedResource(.workload(other)).version)
    }
}

@Suite("When to publish")
struct DebounceTests {
    @Test(
        "the first change after quiet at once, the next when quiet again, a steady stream at the latest after the longest wait"
    )
    func pace() {
        var debounce = Debounce(quiet: .milliseconds(100), longest: .seconds(10))
        let start = ContinuousClock.now
        func at(_ milliseconds: Int) -> ContinuousClock.Instant { start + .milliseconds(milliseconds) }
        #expect(debounce.deadline == nil)
        debounce.changed(at: at(0))
        #expect(debounce.deadline == at(0))
        debounce.published(at: at(0))
        debounce.changed(at: at(10))
        #expect(debounce.deadline == at(110))
        debounce.changed(at: at(60))
        #expect(debounce.deadline == at(160))
        for step in stride(from: 100, through: 12_000, by: 50) { debounce.changed(at: at(step)) }
        #expect(debounce.deadline == at(10_010))
        debounce.published(at: at(12_000))
        debounce.changed(at: at(20_000))
        #expect(debounce.deadline == at(20_000))
    }

    @Test("not while what was published last is digested, be it a first change or one of many")
    func rest() {
        var debounce = Debounce(quiet: .milliseconds(2), longest: .milliseconds(8))
        let start = ContinuousClock.now
        func at(_ milliseconds: Int) -> ContinuousClock.Instant { start + .milliseconds(milliseconds) }
        debounce.changed(at: at(0))
        debounce.published(at: at(0), rest: .milliseconds(100))
        #expect(debounce.deadline == nil)
        for step in 1..<90 { debounce.changed(at: at(step)) }
        #expect(debounce.deadline == at(100))
        debounce.published(at: at(101))
        debounce.changed(at: at(102))
        #expect(debounce.deadline == at(102))
    }
}

@Suite("When to connect again")
struct ReconnectTests {
    @Test("refusals double the wait to 15 s; a broken or clean stream starts over")
    func waits() {
        var backoff = ReconnectBackoff()
        #expect(backoff.wait(after: .notOpened) == .milliseconds(10))
        #expect(backoff.wait(after: .refused) == .milliseconds(20))
        for _ in 0..<20 { _ = backoff.wait(after: .notOpened) }
        #expect(backoff.wait(after: .notOpened) == .seconds(15))
        #expect(backoff.wait(after: .interrupted) == .milliseconds(10))
        #expect(backoff.wait(after: .clean) == .zero)
        #expect(backoff.wait(after: .notOpened) == .milliseconds(10))
    }
}
