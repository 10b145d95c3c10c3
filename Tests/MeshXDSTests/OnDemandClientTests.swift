import GRPCCore
import MeshModel
import MeshXDS
import Testing

/// Notes what was stored when each demand was answered.
private actor DemandRecorder: MeshStateSink {
    private(set) var stored: Set<String> = []
    private(set) var isSynced = false
    /// By key: the names in the store at that moment.
    private(set) var answered: [String: Set<String>] = [:]

    func apply(_ update: MeshUpdate) {
        guard case .addresses(let upserted, let removed) = update else { return }
        self.stored.subtract(removed)
        self.stored.formUnion(upserted.map(\.resourceName))
    }
    func synced() { self.isSynced = true }
    func demandsChanged(answered: [String], forgotten: [String]) {
        for key in answered { self.answered[key] = self.stored }
        for key in forgotten { self.answered[key] = nil }
    }

    func wait(for key: String) async throws -> Set<String> {
        while true {
            if let stored = self.answered[key] { return stored }
            try await Task.sleep(for: .milliseconds(2))
        }
    }
}

@Suite("A delta stream on demand, seen from the client", .timeLimit(.minutes(3)))
struct OnDemandClientTests {
    private static let a = SessionTests.workload("a", ip: "10.0.0.1")

    /// As it comes when somebody asked for its address.
    private static func aliased(_ address: MeshAddress, _ alias: String) -> (inout ScriptedControlPlane.Response) ->
        Void
    {
        return {
            $0.typeURL = XDSType.address
            $0.nonce = "alias"
            $0.resources = [EncodedResource(address).message]
            $0.resources[0].aliases = [alias]
        }
    }

    @Test("X3: a demand is answered when the store has what was asked for, by whatever name it comes")
    func found() async throws {
        let (sink, demands) = (DemandRecorder(), MeshDemands())
        try await ScriptedControlPlane.withClient(sink: sink, demands: demands) { plane in
            let stream = try await plane.nextStream()
            let first = try await stream.first(XDSType.address)
            #expect(first.resourceNamesSubscribe == ["*"] && first.resourceNamesUnsubscribe == ["*"])
            let policies = try await stream.first(XDSType.authorization)
            #expect(policies.resourceNamesSubscribe.isEmpty && policies.resourceNamesUnsubscribe.isEmpty)
            // Policies come whole, and with them the picture is complete.
            stream.send(XDSType.authorization, nonce: "p", [EncodedResource(LoopbackTests.policy)])
            _ = try await stream.answer(to: "p")
            #expect(await sink.isSynced)

            for _ in 0..<2 { demands.demand("/10.0.0.1") }
            let request = try await stream.request { $0.resourceNamesSubscribe == ["/10.0.0.1"] }
            #expect(!request.hasNode && request.resourceNamesUnsubscribe.isEmpty && request.responseNonce.isEmpty)
            stream.send(Self.aliased(Self.a, "/10.0.0.1"))
            #expect(try await sink.wait(for: "/10.0.0.1") == [Self.a.resourceName])
            _ = try await stream.answer(to: "alias")
            demands.demand("/10.0.0.1")
            demands.demand("ns/s.ns.svc")
            _ = try await stream.request { $0.resourceNamesSubscribe == ["ns/s.ns.svc"] }
            // What was answered is not asked for again.
            #expect(stream.untaken.isEmpty)
        }
    }

    @Test("X4: a demand that leads nowhere is answered by a removal, with nothing in the store")
    func absent() async throws {
        let (sink, demands) = (DemandRecorder(), MeshDemands())
        try await ScriptedControlPlane.withClient(sink: sink, demands: demands) { plane in
            let stream = try await plane.nextStream()
            demands.demand("/10.9.9.9")
            _ = try await stream.request { $0.resourceNamesSubscribe == ["/10.9.9.9"] }
            stream.send(XDSType.address, nonce: "1", [], removed: ["/10.9.9.9"])
            #expect(try await sink.wait(for: "/10.9.9.9").isEmpty)
        }
    }

    @Test("a key that is never answered, or badly, holds up no other; a new stream asks for it again")
    func silence() async throws {
        let (sink, demands) = (DemandRecorder(), MeshDemands())
        try await ScriptedControlPlane.withClient(sink: sink, demands: demands) { plane in
            let one = try await plane.nextStream()
            demands.demand("/10.0.0.66")
            _ = try await one.request { $0.resourceNamesSubscribe == ["/10.0.0.66"] }
            demands.demand("/10.0.0.1")
            _ = try await one.request { $0.resourceNamesSubscribe == ["/10.0.0.1"] }
            one.send {
                Self.aliased(Self.a, "/10.0.0.1")(&$0)
                // Says that it is a resource under the silent key, and cannot be read.
                $0.resources.append(
                    .with {
                        $0.name = "c//Pod/ns/bad"
                        $0.aliases = ["/10.0.0.66"]
                        $0.resource = .with { $0.value = .init([0xFF]) }
                    })
            }
            _ = try await sink.wait(for: "/10.0.0.1")
            #expect(await sink.answered["/10.0.0.66"] == nil)
            one.end()
            let two = try await plane.nextStream()
            let versions = try await two.first(XDSType.address).initialResourceVersions
            #expect(versions == [Self.a.resourceName: EncodedResource(Self.a).version, "/10.0.0.1": ""])
            _ = try await two.request { $0.resourceNamesSubscribe == ["/10.0.0.66"] }
            two.send(XDSType.address, nonce: "1", [], removed: ["/10.0.0.66"])
            _ = try await sink.wait(for: "/10.0.0.66")
        }
    }

    @Test("our own server answers: by address, by name, with nothing, and with the own node's pods")
    func ownServer() async throws {
        let authority = try LoopbackTests.authority()
        let server = XDSServer(authenticator: OneToken(token: "good"), logger: LoopbackTests.logger(.critical))
        let own = SessionTests.workload("own", ip: "10.0.0.3", node: "a")
        server.apply(.addresses(upserted: [Self.a, own, SessionTests.service("s", vip: "10.1.0.1")], removed: []))
        server.becomeReady()
        try await LoopbackTests.serving(server, authority) { port in
            let (sink, demands) = (DemandRecorder(), MeshDemands())
            let configuration = LoopbackTests.configuration(
                try LoopbackTests.endpoint(port, authority, token: "good"))
            let client = Task {
                await MeshXDSClient(
                    configuration, sink: sink, logger: LoopbackTests.logger(.critical), demands: demands
                ).run()
            }
            demands.demand("/10.0.0.1")
            #expect(try await sink.wait(for: "/10.0.0.1") == [own.resourceName, Self.a.resourceName])
            demands.demand("ns/s.ns.svc")
            #expect(try await sink.wait(for: "ns/s.ns.svc").contains("ns/s.ns.svc"))
            demands.demand("/10.9.9.9")
            _ = try await sink.wait(for: "/10.9.9.9")
            client.cancel()
            await client.value
        }
    }
}

@Suite("The table of demands")
struct DemandTableTests {
    @Test("says each key once, and all that has no answer again on a new stream")
    func once() {
        var table = DemandTable()
        table.demand("a")
        table.demand("b")
        table.demand("a")
        #expect(table.takeRequest()?.subscribe == ["a", "b"])
        #expect(table.takeRequest() == nil)
        let change = table.answered(["b", "x"])
        #expect(change.answered == ["b"] && change.forgotten.isEmpty)
        #expect(table.startOver() == ["b"])
        #expect(table.takeRequest()?.subscribe == ["a"])
    }

    @Test("too many without an answer: the oldest make room, and may be demanded again")
    func unanswered() throws {
        var table = DemandTable()
        for index in 0...DemandTable.askedMax { table.demand("\(index)") }
        let taken = table.takeRequest()
        let request = try #require(taken)
        #expect(request.subscribe.count <= DemandTable.askedMax && request.subscribe.last == "\(DemandTable.askedMax)")
        #expect(request.unsubscribe.contains("0"))
        table.demand("0")
        #expect(table.takeRequest()?.subscribe == ["0"])
        #expect(table.answered(["0", "1"]).answered == ["0"])
    }

    @Test("too many answers: the oldest are no longer kept up to date, which is said")
    func answers() {
        var table = DemandTable()
        for index in 0...DemandTable.answeredMax {
            table.demand("\(index)")
            let change = table.answered(["\(index)"])
            #expect(change.answered == ["\(index)"])
            #expect(change.forgotten.isEmpty == (index < DemandTable.answeredMax))
            if index == DemandTable.answeredMax { #expect(change.forgotten.first == "0") }
        }
        let request = table.takeRequest()
        #expect(request?.unsubscribe.contains("0") == true)
        table.demand("0")
        #expect(table.takeRequest()?.subscribe == ["0"])
    }
}
