import GRPCCore
import MeshDNS
import MeshModel
import MeshProto
import MeshXDS
import Synchronization
import Testing

@Suite("The table of names, seen from the client", .timeLimit(.minutes(3)))
struct NameTableClientTests {
    private static func resource(_ hosts: [String: [String]], version: String) -> Envoy_Service_Discovery_V3_Resource {
        .with {
            $0.name = "names"
            $0.version = version
            $0.resource = .with {
                $0.typeURL = XDSType.names
                let message = Istio_Networking_Nds_V1_NameTable.with {
                    $0.table = hosts.mapValues { ips in
                        .with {
                            $0.ips = ips
                            $0.registry = "Kubernetes"
                        }
                    }
                }
                $0.value = (try? message.serializedBytes()) ?? .init()
            }
        }
    }

    private static func response(
        _ nonce: String, _ resources: [Envoy_Service_Discovery_V3_Resource], removed: [String] = []
    ) -> HeldNameTable.Response {
        .with {
            $0.typeURL = XDSType.names
            $0.nonce = nonce
            $0.resources = resources
            $0.removedResources = removed
        }
    }

    @Test("a table that cannot be read is refused and the one before stays; addresses that cannot are left out")
    func refusal() {
        var held = HeldNameTable()
        let (change, answer) = held.receive(
            Self.response("1", [Self.resource(["a.b": ["10.0.0.1", "x"], "c.d": ["no address"]], version: "v1")]))
        #expect(change == .table(NameTable(["a.b": .init([IPAddress("10.0.0.1")!], registry: .kubernetes)])))
        #expect(answer.responseNonce == "1" && !answer.hasErrorDetail)
        var broken = Self.resource([:], version: "v2")
        broken.resource.value = .init([0x0a, 0xff])
        let (nothing, refusal) = held.receive(Self.response("2", [broken]))
        #expect(nothing == .nothing)
        #expect(refusal.errorDetail.message.contains("names: not a readable NameTable"))
        #expect(held.first(.with { $0.id = "x" }).initialResourceVersions == ["names": "v1"])
        #expect(held.receive(Self.response("3", [], removed: ["other"])).change == .nothing)
        #expect(held.receive(Self.response("4", [], removed: ["names"])).change == .gone)
        #expect(held.first(.with { $0.id = "x" }).initialResourceVersions.isEmpty)
    }

    @Test("what was told outlives an aborted stream, and the next one begins with its version")
    func aborted() async throws {
        let (tables, told) = AsyncStream.makeStream(of: NameTable?.self)
        let count = Atomic(0)
        try await ScriptedControlPlane.with { configuration in
            await NameTableClient(configuration, logger: LoopbackTests.logger(.critical)) {
                count.add(1, ordering: .relaxed)
                told.yield($0)
            }.run()
        } body: { plane in
            var iterator = tables.makeAsyncIterator()
            let one = try await plane.nextStream()
            #expect(try await one.first(XDSType.names).initialResourceVersions.isEmpty)
            one.send { $0 = Self.response("1", [Self.resource(["a.b": ["10.0.0.1"]], version: "v1")]) }
            #expect(await iterator.next()??.entries.keys.sorted() == ["a.b"])
            #expect(!(try await one.answer(to: "1").hasErrorDetail))
            one.end(RPCError(code: .unavailable, message: "gone"))
            let two = try await plane.nextStream()
            #expect(try await two.first(XDSType.names).initialResourceVersions == ["names": "v1"])
            #expect(count.load(ordering: .relaxed) == 1, "the end of a stream changes nothing")
            two.send { $0 = Self.response("2", [Self.resource(["a.b": ["10.0.0.2"]], version: "v2")]) }
            #expect(await iterator.next()??.entries["a.b"]?.addresses == [IPAddress("10.0.0.2")!])
        }
    }
}
