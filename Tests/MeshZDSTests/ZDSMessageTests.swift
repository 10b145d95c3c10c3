import MeshZDS
import Testing

/// The bytes were recorded from the reference's own encoder.
@Suite("ZDS messages")
struct ZDSMessageTests {
    static let pod = ZDSPod(uid: "u1", name: "web-0", namespace: "shop", serviceAccount: "web")

    @Test("have the bytes of the protocol")
    func bytes() throws {
        #expect(ZDS.hello == [0x08, 0x01])
        #expect(ZDSResponse().encoded == [0x0a, 0x00])
        #expect(ZDSResponse(error: "boom").encoded == [0x0a, 0x06, 0x0a, 0x04, 0x62, 0x6f, 0x6f, 0x6d])
        #expect(try ZDSRequest.snapshotSent.encoded() == [0x1a, 0x00])
        #expect(try ZDSRequest.delete(uid: "u1").encoded() == [0x12, 0x04, 0x12, 0x02, 0x75, 0x31])
        #expect(try ZDSRequest.keep(uid: "u1").encoded() == [0x2a, 0x04, 0x0a, 0x02, 0x75, 0x31])
        #expect(
            try ZDSRequest.add(Self.pod).encoded() == [0x0a, 0x18, 0x0a, 0x02, 0x75, 0x31, 0x12, 0x12, 0x0a, 0x05]
                + Array("web-0".utf8) + [0x12, 0x04] + Array("shop".utf8) + [0x1a, 0x03] + Array("web".utf8))
    }

    @Test(
        "survive a round trip",
        arguments: [
            ZDSRequest.add(ZDSMessageTests.pod), .delete(uid: "u1"), .keep(uid: "u1"), .snapshotSent,
            .add(ZDSPod(uid: "u", name: String(repeating: "n", count: 253), namespace: "", serviceAccount: "é")),
        ])
    func roundTrip(request: ZDSRequest) throws {
        #expect(try ZDSRequest(decoding: request.encoded()) == request)
    }

    @Test("recognise a hello of version 1 only")
    func hello() {
        #expect(ZDS.isHello([0x08, 0x01]))
        #expect(!ZDS.isHello([]))
        #expect(!ZDS.isHello([0x08, 0x02]))
        #expect(!ZDS.isHello([0x0a, 0x00]))
    }

    @Test("skip fields that are newer than we are")
    func unknownFields() throws {
        let later: [UInt8] = [0x30, 0x96, 0x01, 0x3d, 1, 2, 3, 4, 0x39, 1, 2, 3, 4, 5, 6, 7, 8]
        #expect(try ZDSRequest(decoding: later + [0x1a, 0x00]) == .snapshotSent)
    }

    @Test(
        "refuse what is not one of them",
        arguments: [
            [], [0x0a], [0x0a, 0x05, 0x00], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            [0x0a, 0x04, 0x0a, 0x02, 0x75, 0x31],  // an add without workload_info
            [0x12, 0x03, 0x12, 0x01, 0xff],  // a UID that is not UTF-8
            [0x22, 0x00],  // number 4 is unused
            [0x1b, 0x00],  // a group
        ] as [[UInt8]])
    func malformed(bytes: [UInt8]) {
        #expect(throws: ZDSMalformed.self) { try ZDSRequest(decoding: bytes) }
    }

    @Test("never crash on any prefix or flipped bit of a good message")
    func mutations() throws {
        let good = try ZDSRequest.add(Self.pod).encoded()
        for end in good.indices { _ = try? ZDSRequest(decoding: Array(good[..<end])) }
        for at in good.indices {
            for bit in 0..<8 {
                var bytes = good
                bytes[at] ^= 1 << bit
                _ = try? ZDSRequest(decoding: bytes)
                _ = try? ZDSResponse(decoding: bytes)
            }
        }
    }

    @Test("an order that does not fit into a packet is refused; a long reason is cut at a character")
    func tooLong() throws {
        #expect(throws: ZDSMalformed.self) {
            try ZDSRequest.keep(uid: String(repeating: "x", count: 1100)).encoded()
        }
        let cut = ZDSResponse(error: String(repeating: "é", count: 1000)).encoded
        #expect(cut.count <= ZDS.packetBytesMax)
        #expect(try ZDSResponse(decoding: cut).error?.last == "é")
    }
}
