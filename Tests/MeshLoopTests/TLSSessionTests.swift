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

    /// Both ends of a connection whose wire is an array.
    private final class Pair {
        let client, server: TLSSession
        private let wire = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)

        init(_ client: TLSContext, _ server: TLSContext) throws {
            self.client = try #require(TLSSession(client))
            self.server = try #require(TLSSession(server))
        }

        deinit { self.wire.deallocate() }

        /// Runs handshakes in turn until both are done or one fails. Pieces of `piece` bytes reach the other side.
        func handshake(piece: Int = .max) -> (client: TLSSession.Progress, server: TLSSession.Progress) {
            var (clientState, serverState) = (TLSSession.Progress.wantsMore, TLSSession.Progress.wantsMore)
            var toServer = self.step(self.client, &clientState)
            for _ in 0..<8 where clientState != .failed && serverState != .failed {
                let toClient = self.deliver(toServer, self.server, &serverState, piece)
                toServer = self.deliver(toClient, self.client, &clientState, piece)
                if clientState == .done, serverState == .done { break }
            }
            return (clientState, serverState)
        }

        private func step(_ session: TLSSession, _ state: inout TLSSession.Progress) -> [UInt8] {
            let (progress, count) = session.handshake(into: self.wire)
            state = progress
            return Array(self.wire[..<count])
        }

        private func deliver(
            _ bytes: [UInt8], _ session: TLSSession, _ state: inout TLSSession.Progress, _ piece: Int
        ) -> [UInt8] {
            var out: [UInt8] = []
            var at = 0
            while at < bytes.count, state == .wantsMore {
                let end = min(bytes.count, piece == .max ? bytes.count : at + piece)
                bytes[at..<end].withUnsafeBytes { fed in
                    session.feed(fed)
                    out += self.step(session, &state)
                }
                at = end
            }
            return out
        }

        func send(_ bytes: [UInt8], from: TLSSession, to: TLSSession) -> [UInt8] {
            let count = bytes.withUnsafeBytes { from.write($0.baseAddress!, $0.count, into: self.wire) } ?? 0
            let sealed = Array(self.wire[..<count])
            var received: [UInt8] = []
            sealed.withUnsafeBytes { fed in
                to.feed(fed)
                withUnsafeTemporaryAllocation(byteCount: 32 << 10, alignment: 16) { plain in
                    while case .plain(let count) = to.read(into: plain.baseAddress!, plain.count) {
                        received += plain[..<count]
                    }
                }
            }
            return received
        }
    }

    @Test("both prove who they are; bytes arrive; the key exchange is post-quantum", arguments: [Int.max, 1, 100])
    func handshake(piece: Int) throws {
        let ca = try TestCA()
        let pair = try Pair(
            self.context(.client, ca.issue(uris: [Self.uri])),
            self.context(.server, ca.issue(uris: ["spiffe://cluster.local/ns/default/sa/b", "https://other"])))
        let result = pair.handshake(piece: piece)
        #expect(result == (.done, .done))
        #expect(pair.server.peerURIs() == [Self.uri])
        #expect(pair.client.peerURIs() == ["spiffe://cluster.local/ns/default/sa/b", "https://other"])
        #expect(pair.client.isHTTP2 && pair.server.isHTTP2)
        #expect(pair.client.group == "X25519MLKEM768")
        let bytes = patternBytes(100_000, seed: 1)
        #expect(pair.send(bytes, from: pair.client, to: pair.server) == bytes)
        #expect(pair.send(bytes, from: pair.server, to: pair.client) == bytes)
    }

    @Test("a chain with an intermediate authority is verified to the root")
    func intermediate() throws {
        let ca = try TestCA()
        let below = try ca.intermediate()
        let pair = try Pair(
            self.context(.client, below.issue(uris: [Self.uri])), self.context(.server, ca.issue(uris: [Self.uri])))
        #expect(pair.handshake() == (.done, .done))
    }

    @Test("a server of another authority is refused, in words")
    func stranger() throws {
        let ca = try TestCA()
        let pair = try Pair(
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
        let pair = try Pair(
            self.context(.client, ca.issue(uris: [Self.uri])),
            self.context(.server, ca.issue(uris: [Self.uri], validity: -7200 ..< -3600)))
        #expect(pair.handshake().client == .failed)
        #expect(pair.client.errorText.contains("expired"))
    }

    @Test("a client of another authority is refused by the server")
    func strangeClient() throws {
        let ca = try TestCA()
        let strange = try TestCA(name: "stranger").issue(uris: [Self.uri])
        let pair = try Pair(
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
