import MeshLoop
import MeshTestSupport
import Testing

@Suite("TLS through memory")
struct TLSSessionTests {
    private static let uri = "spiffe://cluster.local/ns/default/sa/a"

    private func context(_ role: TLSContext.Role, _ issued: TestCA.Issued, roots: [[UInt8]]? = nil) throws -> TLSContext
    {
        try TLSContext(
            role: role, chain: issued.chain, privateKey: issued.privateKey, roots: roots ?? issued.roots)
    }

    @Test("both prove who they are; bytes arrive; the key exchange is post-quantum", arguments: [Int.max, 1, 100])
    func handshake(piece: Int) throws {
        let ca = try TestCA()
        let pair = try TLSPair(
            self.context(.client, ca.issue(uris: [Self.uri])),
            self.context(.server, ca.issue(uris: ["spiffe://cluster.local/ns/default/sa/b", "https://other"])))
        let result = pair.handshake(piece: piece)
        #expect(result == (.done, .done))
        #expect(pair.server.peerURIs() == [Self.uri])
        #expect(pair.client.peerURIs() == ["spiffe://cluster.local/ns/default/sa/b", "https://other"])
        #expect(pair.client.isHTTP2 && pair.server.isHTTP2)
        #expect(pair.client.group == "X25519MLKEM768")
    }

    @Test("a chain with an intermediate authority is verified to the root")
    func intermediate() throws {
        let ca = try TestCA()
        let below = try ca.intermediate()
        let pair = try TLSPair(
            self.context(.client, below.issue(uris: [Self.uri])), self.context(.server, ca.issue(uris: [Self.uri])))
        #expect(pair.handshake() == (.done, .done))
    }

    @Test("a server of another authority is refused, in words")
    func stranger() throws {
        let ca = try TestCA()
        let pair = try TLSPair(
            self.context(.client, ca.issue(uris: [Self.uri])),
            self.context(.server, TestCA(name: "stranger").issue(uris: [Self.uri])))
        let result = pair.handshake()
        #expect(result.client == .failed)
        #expect(pair.client.errorText.hasPrefix("the peer's certificate is not trusted"))
        #expect(pair.client.peerURIs().isEmpty)
    }

    @Test("an expired certificate is refused, in words")
    func expired() throws {
        let ca = try TestCA()
        let pair = try TLSPair(
            self.context(.client, ca.issue(uris: [Self.uri])),
            self.context(.server, ca.issue(uris: [Self.uri], validity: -7200 ..< -3600)))
        #expect(pair.handshake().client == .failed)
        #expect(pair.client.errorText.contains("expired"))
    }

    @Test("a client of another authority is refused by the server")
    func strangeClient() throws {
        let ca = try TestCA()
        let strange = try TestCA(name: "stranger").issue(uris: [Self.uri])
        let pair = try TLSPair(
            self.context(.client, strange, roots: [ca.rootDER]), self.context(.server, ca.issue(uris: [Self.uri])))
        #expect(pair.handshake().server == .failed)
    }

    @Test("what is no certificate, key or pair is refused when the context is made")
    func badParts() throws {
        let ca = try TestCA()
        let good = try ca.issue(uris: [Self.uri])
        let other = try ca.issue(uris: [Self.uri])
        func make(_ chain: [[UInt8]], _ key: [UInt8], _ roots: [[UInt8]]) throws {
            _ = try TLSContext(role: .client, chain: chain, privateKey: key, roots: roots)
        }
        #expect(throws: TLSContextError.self) { try make([[1, 2]], good.privateKey, good.roots) }
        #expect(throws: TLSContextError.self) { try make([good.chain[0] + [0]], good.privateKey, good.roots) }
        #expect(throws: TLSContextError.self) { try make(good.chain, [4], good.roots) }
        #expect(throws: TLSContextError.self) { try make(good.chain, other.privateKey, good.roots) }
        #expect(throws: TLSContextError.self) { try make(good.chain, good.privateKey, []) }
        #expect(throws: TLSContextError.self) { try make([], good.privateKey, good.roots) }
        #expect(throws: TLSContextError.self) { try make(good.chain, good.privateKey, [[]]) }
    }
}
