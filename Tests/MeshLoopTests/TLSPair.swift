import MeshLoop
import MeshTestSupport
import Testing

/// Both ends of a connection whose wire is an array.
final class TLSPair {
    let client, server: TLSSession
    private let wire = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)

    init(_ client: TLSContext, _ server: TLSContext, recordsPerKey: UInt64 = TLSSession.recordsPerKey) throws {
        self.client = try #require(TLSSession(client, recordsPerKey: recordsPerKey))
        self.server = try #require(TLSSession(server, recordsPerKey: recordsPerKey))
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

    /// Both ends with their keys and nothing else.
    func settled() throws -> (client: SessionBytes, server: SessionBytes) {
        try #require(self.handshake() == (.done, .done))
        try #require(self.client.settle() && self.server.settle())
        return (SessionBytes(self.client), SessionBytes(self.server))
    }
}

extension TestCA {
    func client(_ name: String) throws -> TLSContext { try self.context(.client, name) }
    func server(_ name: String) throws -> TLSContext { try self.context(.server, name) }

    private func context(_ role: TLSContext.Role, _ name: String) throws -> TLSContext {
        let issued = try self.issue(uris: ["spiffe://cluster.local/ns/default/sa/\(name)"])
        return try TLSContext(role: role, chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots)
    }
}
