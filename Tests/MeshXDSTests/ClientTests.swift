import GRPCCore
import MeshModel
import MeshProto
import MeshXDS
import Testing

@Suite("A delta stream, seen from the client", .timeLimit(.minutes(3)))
struct ClientTests {
    private static let (a, b) = (SessionTests.workload("a", ip: "10.0.0.1"), SessionTests.workload("b", ip: "10.0.0.2"))

    /// A workload whose address has five bytes.
    private static func bad(_ name: String) -> Envoy_Service_Discovery_V3_Resource {
        .with {
            $0.name = name
            $0.version = "1"
            $0.resource = .with {
                $0.typeURL = XDSType.address
                let message = Istio_Workload_Address.with {
                    $0.workload = .with {
                        $0.uid = name
                        $0.addresses = [.init([1, 2, 3, 4, 5])]
                    }
                }
                $0.value = (try? message.serializedBytes()) ?? .init()
            }
        }
    }

    @Test("X1: after a drop the first requests list what was accepted, with its versions, and not what was refused")
    func versions() async throws {
        let sink = Recorder()
        try await ScriptedControlPlane.withClient(sink: sink) { plane in
            let one = try await plane.nextStream()
            for type in [XDSType.address, XDSType.authorization] {
                let request = try await one.first(type)
                #expect(request.initialResourceVersions.isEmpty)
                #expect(request.resourceNamesSubscribe.isEmpty && request.resourceNamesUnsubscribe.isEmpty)
            }
            one.send {
                $0.typeURL = XDSType.address
                $0.nonce = "1"
                $0.resources = [EncodedResource(Self.a).message, Self.bad("c//Pod/ns/bad")]
            }
            one.send(XDSType.authorization, nonce: "2", [EncodedResource(LoopbackTests.policy)])
            _ = try await one.answer(to: "2")
            one.end(RPCError(code: .unavailable, message: "gone"))
            let two = try await plane.nextStream()
            let addresses = try await two.first(XDSType.address).initialResourceVersions
            #expect(addresses == [Self.a.resourceName: EncodedResource(Self.a).version])
            let policies = try await two.first(XDSType.authorization).initialResourceVersions
            #expect(policies == ["ns/p": EncodedResource(LoopbackTests.policy).version])
        }
    }

    /// Holds the second update until it is let go.
    private actor Slow: MeshStateSink {
        private(set) var stored = 0
        private(set) var storedWhenSynced: Int?
        private var gate: CheckedContinuation<Void, Never>?
        private var isOpen = false

        func apply(_ update: MeshUpdate) async {
            if self.stored == 1, !self.isOpen { await withCheckedContinuation { self.gate = $0 } }
            self.stored += 1
        }
        func synced() { self.storedWhenSynced = self.stored }
        func demandsChanged(answered: [String], forgotten: [String]) {}
        var isHeld: Bool { self.gate != nil }
        func letGo() {
            self.isOpen = true
            self.gate?.resume()
            self.gate = nil
        }
    }

    @Test("X2: the mesh is not called known, nor a response acknowledged, before the store is filled")
    func readiness() async throws {
        let sink = Slow()
        try await ScriptedControlPlane.withClient(sink: sink) { plane in
            let stream = try await plane.nextStream()
            stream.send(XDSType.address, nonce: "1", [EncodedResource(Self.a)])
            stream.send(XDSType.authorization, nonce: "2", [EncodedResource(LoopbackTests.policy)])
            _ = try await stream.answer(to: "1")
            while await !sink.isHeld { try await Task.sleep(for: .milliseconds(2)) }
            #expect(await sink.storedWhenSynced == nil)
            #expect(!stream.untaken.contains { $0.responseNonce == "2" })
            await sink.letGo()
            _ = try await stream.answer(to: "2")
            #expect(await sink.storedWhenSynced == 2)
        }
    }

    @Test("X5: of one response the good resources are stored and the bad one is named in the NACK")
    func refusal() async throws {
        let sink = Recorder()
        try await ScriptedControlPlane.withClient(sink: sink) { plane in
            let stream = try await plane.nextStream()
            stream.send {
                $0.typeURL = XDSType.address
                $0.nonce = "1"
                $0.resources = [
                    EncodedResource(Self.a).message, Self.bad("c//Pod/ns/bad"), EncodedResource(Self.b).message,
                ]
            }
            let answer = try await stream.answer(to: "1")
            #expect(answer.hasErrorDetail && answer.errorDetail.message.hasPrefix("c//Pod/ns/bad: "))
            #expect(await Set(sink.addresses.keys) == [Self.a.resourceName, Self.b.resourceName])
            stream.send(XDSType.address, nonce: "2", [], removed: [Self.b.resourceName])
            let next = try await stream.answer(to: "2")
            #expect(!next.hasErrorDetail && next.typeURL == XDSType.address && !next.hasNode)
        }
    }

    @Test("X6: the node carries its metadata with all that is nested in it")
    func node() async throws {
        let nested = MetadataValue.object([
            "a": .list([.number(1), .bool(true), .null]), "b": .object(["c": .string("d")]),
        ])
        try await ScriptedControlPlane.withClient(sink: Recorder(), metadata: ["NESTED": nested]) { plane in
            let node = try await plane.nextStream().first(XDSType.address).node
            #expect(node.id == "ztunnel~10.0.0.1~ztunnel-a.istio-system~istio-system.svc.cluster.local")
            #expect(node.metadata.fields["NODE_NAME"]?.stringValue == "a")
            let fields = try #require(node.metadata.fields["NESTED"]?.structValue.fields)
            #expect(fields["b"]?.structValue.fields["c"]?.stringValue == "d")
            let list = try #require(fields["a"]?.listValue.values)
            #expect(
                list.count == 3 && list[0].numberValue == 1 && list[1].boolValue
                    && list[2].kind == .nullValue(.nullValue))
        }
    }

    @Test("X8: what is stored outlives an aborted stream, and a removal on the next one is applied")
    func aborted() async throws {
        let sink = Recorder()
        try await ScriptedControlPlane.withClient(sink: sink) { plane in
            let one = try await plane.nextStream()
            one.send(XDSType.address, nonce: "1", [EncodedResource(Self.a), EncodedResource(Self.b)])
            _ = try await one.answer(to: "1")
            one.end(RPCError(code: .aborted, message: "restarting"))
            let two = try await plane.nextStream()
            #expect(try await two.first(XDSType.address).initialResourceVersions.count == 2)
            #expect(await sink.addresses.count == 2)
            two.send(XDSType.address, nonce: "2", [], removed: [Self.a.resourceName])
            _ = try await two.answer(to: "2")
            #expect(await Set(sink.addresses.keys) == [Self.b.resourceName])
        }
    }
}
