import MeshLoop
import MeshTestSupport
import Testing

@Suite("TLS records of our own")
struct TLSRecordTests {
    private static func pair(recordsPerKey: UInt64 = TLSSession.recordsPerKey) throws -> (SessionBytes, SessionBytes) {
        let ca = try TestCA()
        let pair = try TLSPair(ca.client("a"), ca.server("b"), recordsPerKey: recordsPerKey)
        return try pair.settled()
    }

    @Test("bytes arrive, both ways, however they are cut", arguments: [Int.max, 1, 7, 16_405])
    func both(piece: Int) throws {
        var (client, server) = try Self.pair()
        let bytes = patternBytes(40_000, seed: 1)
        func carry(_ sealed: [UInt8], to end: inout SessionBytes) throws -> [UInt8] {
            var text: [UInt8] = []
            for start in stride(from: 0, to: sealed.count, by: min(piece, sealed.count)) {
                text += try end.open(Array(sealed[start...].prefix(piece))).text
            }
            return text
        }
        #expect(try carry(client.seal(bytes), to: &server) == bytes)
        #expect(try carry(server.seal(bytes), to: &client) == bytes)
        #expect(client.rest.isEmpty && server.rest.isEmpty)
    }

    @Test("a full record is 16 KiB and 22 bytes")
    func size() throws {
        let (client, _) = try Self.pair()
        #expect(
            try client.seal(patternBytes(TLSRecord.textBytesMax, seed: 2)).count
                == TLSRecord.textBytesMax + TLSRecord.overheadBytes)
    }

    @Test("keys change after so many records, in both directions, and nothing is lost")
    func keyUpdate() throws {
        var (client, server) = try Self.pair(recordsPerKey: 3)
        for round in 0..<20 {
            let bytes = patternBytes(100 + round, seed: UInt64(round))
            #expect(try server.open(client.seal(bytes)).text == bytes)
            #expect(try client.open(server.seal(bytes)).text == bytes)
        }
    }

    @Test("a damaged byte anywhere is a failure, in words", arguments: [0, 1, 3, 4, 5, 60, 126])
    func damaged(at: Int) throws {
        let (client, other) = try Self.pair()
        var server = other
        var sealed = try client.seal(patternBytes(105, seed: 3))
        #expect(sealed.count == 127)
        sealed[at] ^= 0x40
        // A greater length only wants more bytes; they come.
        sealed += [UInt8](repeating: 0, count: 1 << 15)
        #expect(throws: SessionBytes.Broken.self) { try server.open(sealed) }
        #expect(server.session.errorText.hasPrefix("TLS: "))
    }

    @Test("a record that comes twice, or before its turn, is a failure")
    func order() throws {
        var (client, server) = try Self.pair()
        let first = try client.seal([1])
        _ = try server.open(first)
        #expect(throws: SessionBytes.Broken.self) { try server.open(first) }
        (client, server) = try Self.pair()
        _ = try client.seal([1])
        #expect(throws: SessionBytes.Broken.self) { try server.open(client.seal([2])) }
    }

    @Test("close_notify is an end, an alert is a failure that names it")
    func ends() throws {
        var (client, server) = try Self.pair()
        var out = [UInt8](repeating: 0, count: 64)
        var count = out.withUnsafeMutableBytes { client.session.closeNotify(into: $0) }
        #expect(try server.open(Array(out[..<count])).isClosed)
        count = out.withUnsafeMutableBytes { server.session.alert(49, into: $0) }
        #expect(throws: SessionBytes.Broken.self) { try client.open(Array(out[..<count])) }
        #expect(client.session.errorText == "TLS: the peer says access denied")
    }

    @Test("records without data are borne a while, not for ever")
    func idle() throws {
        let (client, server) = try Self.pair()
        var empty = [UInt8](repeating: 0, count: TLSRecord.overheadBytes)
        func send() -> TLSRecord.Opened {
            #expect(empty.withUnsafeMutableBytes { client.session.seal($0.baseAddress!, 0) })
            return empty.withUnsafeMutableBytes { server.session.open($0) }
        }
        for _ in 0..<32 { #expect(send() == .nothing(bytes: TLSRecord.overheadBytes)) }
        #expect(send() == .failed)
    }

    @Test("a settled session has forgotten who the peer is: that is asked before")
    func forgets() throws {
        let (client, _) = try Self.pair()
        #expect(client.session.peerURIs().isEmpty)
    }
}
