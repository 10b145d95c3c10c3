import MeshHTTP
import Testing

@Suite("HPACK")
struct HPACKTests {
    // MARK: RFC 7541 appendix C

    @Test("decodes the single fields of RFC 7541 C.2")
    func appendixC2() throws {
        let header = "400a637573746f6d2d6b65790d637573746f6d2d686561646572"
        var decoder = HPACKDecoder()
        #expect(try decoder.decode(hex(header)) == ["custom-key": "custom-header"])
        #expect(decoder.tableBytes == 55)
        decoder = HPACKDecoder()
        #expect(try decoder.decode(hex("040c2f73616d706c652f70617468")) == [":path": "/sample/path"])
        #expect(decoder.tableBytes == 0)
        var secret = HTTP2HeaderList()
        secret.append("password", "secret", sensitive: true)
        #expect(try decoder.decode(hex("100870617373776f726406736563726574")) == secret)
        #expect(decoder.tableBytes == 0)
        #expect(try decoder.decode(hex("82")) == [":method": "GET"])
    }

    struct Story: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var tableBytesMax = 4_096
        let blocks: [(hex: String, list: HTTP2HeaderList, tableBytes: Int)]
    }

    static let requests: [HTTP2HeaderList] = [
        [":method": "GET", ":scheme": "http", ":path": "/", ":authority": "www.example.com"],
        [
            ":method": "GET", ":scheme": "http", ":path": "/", ":authority": "www.example.com",
            "cache-control": "no-cache",
        ],
        [
            ":method": "GET", ":scheme": "https", ":path": "/index.html", ":authority": "www.example.com",
            "custom-key": "custom-value",
        ],
    ]
    static let responses: [HTTP2HeaderList] = [
        [
            ":status": "302", "cache-control": "private", "date": "Mon, 21 Oct 2013 20:13:21 GMT",
            "location": "https://www.example.com",
        ],
        [
            ":status": "307", "cache-control": "private", "date": "Mon, 21 Oct 2013 20:13:21 GMT",
            "location": "https://www.example.com",
        ],
        [
            ":status": "200", "cache-control": "private", "date": "Mon, 21 Oct 2013 20:13:22 GMT",
            "location": "https://www.example.com", "content-encoding": "gzip",
            "set-cookie": "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
        ],
    ]
    static let stories: [Story] = [
        Story(
            testDescription: "C.3 requests, plain",
            blocks: [
                ("828684410f7777772e6578616d706c652e636f6d", requests[0], 57),
                ("828684be58086e6f2d6361636865", requests[1], 110),
                ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", requests[2], 164),
            ]),
        Story(
            testDescription: "C.4 requests, Huffman",
            blocks: [
                ("828684418cf1e3c2e5f23a6ba0ab90f4ff", requests[0], 57),
                ("828684be5886a8eb10649cbf", requests[1], 110),
                ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", requests[2], 164),
            ]),
        Story(
            testDescription: "C.5 responses, plain, evicting", tableBytesMax: 256,
            blocks: [
                (
                    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
                        + "6e1768747470733a2f2f7777772e6578616d706c652e636f6d", responses[0], 222
                ),
                ("4803333037c1c0bf", responses[1], 222),
                (
                    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d"
                        + "4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076"
                        + "657273696f6e3d31", responses[2], 215
                ),
            ]),
        Story(
            testDescription: "C.6 responses, Huffman, evicting", tableBytesMax: 256,
            blocks: [
                (
                    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b"
                        + "97c8e9ae82ae43d3", responses[0], 222
                ),
                ("4883640effc1c0bf", responses[1], 222),
                (
                    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdf"
                        + "cd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007", responses[2], 215
                ),
            ]),
    ]

    @Test("decodes the stories of RFC 7541", arguments: stories)
    func appendixC(story: Story) throws {
        var decoder = HPACKDecoder(tableBytesMax: story.tableBytesMax)
        for block in story.blocks {
            #expect(try decoder.decode(hex(block.hex)) == block.list)
            #expect(decoder.tableBytes == block.tableBytes)
        }
    }

    @Test("encodes C.4 as RFC 7541 does")
    func encodesAppendixC4() {
        var encoder = HPACKEncoder()
        for block in Self.stories[1].blocks {
            #expect(hex(encoder.encode(block.list)) == block.hex)
            #expect(encoder.tableBytes == block.tableBytes)
        }
    }

    // MARK: Other implementations, and ourselves

    @Test("decodes what Python hpack encoded, one table for a connection", arguments: 0..<4)
    func differential(connection: Int) throws {
        var decoder = HPACKDecoder()
        for block in Golden.hpack[connection] {
            let list = try decoder.decode(block.bytes)
            #expect((0..<list.count).map { [list.name($0), list.value($0)] } == block.fields)
        }
    }

    @Test("decodes its own blocks while the table is resized", arguments: 0..<20)
    func roundTrip(seed: Int) throws {
        var random = Seeded(state: UInt64(seed))
        var encoder = HPACKEncoder()
        var decoder = HPACKDecoder()
        let names = [":method", ":authority", "baggage", "traceparent", "x-a", "cookie", "te"]
        for _ in 0..<60 {
            if Int.random(in: 0..<8, using: &random) == 0 {
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    encoder.peerTableBytesMaxChanged(to: .random(in: 0...4_096, using: &random))
                }
            }
            var list = HTTP2HeaderList()
            for _ in 0..<Int.random(in: 0..<8, using: &random) {
                let length = Int.random(in: 0..<Int.random(in: 1..<200, using: &random), using: &random)
                let value = String(
                    decoding: (0..<length).map { _ in UInt8.random(in: 32..<127, using: &random) }, as: UTF8.self)
                list.append(
                    names.randomElement(using: &random)!, Bool.random(using: &random) ? "same" : value,
                    sensitive: Int.random(in: 0..<5, using: &random) == 0)
            }
            let indexing: HPACKEncoder.Indexing = Bool.random(using: &random) ? .table : .none
            #expect(try decoder.decode(encoder.encode(list, indexing: indexing)) == list)
            #expect(decoder.tableBytes == encoder.tableBytes)
            #expect(decoder.tableBytes <= 4_096)
        }
    }

    @Test("keeps every octet through the Huffman code")
    func huffmanOctets() throws {
        for octet in UInt8.min...UInt8.max {
            for count in [1, 2, 3, 8, 100] {
                let text = [UInt8](repeating: octet, count: count)
                var coded: [UInt8] = []
                text.withUnsafeBytes { HPACKHuffman.shared.encode($0, into: &coded) }
                #expect(coded.count == text.withUnsafeBytes { HPACKHuffman.shared.encodedCount($0) })
                var decoded: [UInt8] = []
                #expect(coded.withUnsafeBytes { HPACKHuffman.shared.decode($0, into: &decoded) })
                #expect(decoded == text)
            }
        }
    }

    @Test("writes the second CONNECT to a place in a few octets")
    func connectBlock() throws {
        var encoder = HPACKEncoder()
        var decoder = HPACKDecoder()
        func block(trace: String) -> [UInt8] {
            var block: [UInt8] = []
            encoder.begin(&block)
            HTTP2ConnectRequest.append(authority: "10.42.1.2:8080", &encoder, to: &block)
            encoder.append("traceparent", trace, .none, to: &block)
            return block
        }
        let first = block(trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        let second = block(trace: "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")
        #expect(try decoder.decode(first).values(of: ":method") == ["CONNECT"])
        let list = try decoder.decode(second)
        #expect(list[":authority"] == "10.42.1.2:8080")
        #expect(list["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")
        #expect(second.prefix(2) == [0xbf, 0xbe])
        #expect(decoder.tableCount == 2, "a trace identifier takes no place in the table")
    }

    // MARK: Bad blocks

    static let bad: [(String, HPACKError)] = [
        ("80", .unknownIndex(0)), ("be", .unknownIndex(62)), ("ff8001", .unknownIndex(255)),
        ("7e0161", .unknownIndex(62)), ("40", .truncated), ("400a6375", .truncated), ("4001610362", .truncated),
        ("ff", .truncated), ("ff80", .truncated), ("ffffffffff7f", .integerTooLarge),
        ("ff8080808080808000", .integerTooLarge), ("007fffffffffffffffff7f", .integerTooLarge),
        ("8220", .lateTableSizeUpdate), ("3fe21f", .tableTooLarge(4_097, bytesMax: 4_096)),
        // EOS itself; eight bits of padding; padding of zeros.
        ("418 4ffffffff", .badHuffman), ("4182 1fff", .badHuffman), ("4181 18", .badHuffman),
    ]

    @Test("refuses bad blocks", arguments: bad)
    func refuses(block: String, error: HPACKError) {
        var decoder = HPACKDecoder()
        #expect(throws: error) { try decoder.decode(hex(block)) }
        #expect(HTTP2ConnectionError.compression(error).code == .compressionError)
    }

    @Test("wants a smaller table confirmed, and takes the confirmation")
    func confirmation() throws {
        var decoder = HPACKDecoder()
        decoder.tableLimitAcknowledged(100)
        #expect(try decoder.decode(hex("3f4582")) == [":method": "GET"])
        decoder.tableLimitAcknowledged(0)
        #expect(throws: HPACKError.missingTableSizeUpdate) { try decoder.decode(hex("82")) }
    }

    @Test("cuts and marks a list over its limit, and keeps the table right")
    func listLimit() throws {
        var encoder = HPACKEncoder()
        var decoder = HPACKDecoder(listBytesMax: 200)
        let long = String(repeating: "v", count: 150)
        let list = try decoder.decode(encoder.encode(["a": "b", "x-long": long, "c": "d"]))
        #expect(list.isTruncated)
        #expect(list["x-long"] == nil)
        #expect(throws: HTTP2MalformedMessage.truncated) { try HTTP2RequestHead(validating: list) }
        #expect(try decoder.decode(encoder.encode(["x-long": long])) == ["x-long": long])
    }

    @Test("gives up on a decompression bomb")
    func bomb() throws {
        var decoder = HPACKDecoder()
        // 4000 octets enter the table, then one octet each brings them again.
        let value = [UInt8](repeating: 0x61, count: 4_000)
        let block = hex("400162 7fa11e") + value + [UInt8](repeating: 0xbe, count: 60_000)
        let error = HPACKError.listFarTooLarge(bytesMax: 65_536)
        #expect(throws: error) { try decoder.decode(block) }
        #expect(HTTP2ConnectionError.compression(error).code == .enhanceYourCalm)
    }

    @Test("survives random blocks within its bounds", arguments: 0..<20)
    func random(seed: Int) {
        var random = Seeded(state: UInt64(seed))
        for _ in 0..<200 {
            var decoder = HPACKDecoder(tableBytesMax: 300, listBytesMax: 1_000)
            var list = HTTP2HeaderList()
            do throws(HPACKError) {
                for _ in 0..<10 {
                    let block = (0..<Int.random(in: 0..<60, using: &random)).map { _ in
                        UInt8.random(in: 0...255, using: &random)
                    }
                    try decoder.decode(block, into: &list)
                    #expect(list.listBytes <= 1_000)
                }
            } catch {}
            #expect(decoder.tableBytes <= 300)
        }
    }

    @Test("fields that come again enter the table; identifiers, cookies and secrets do not")
    func repeated() throws {
        var encoder = HPACKEncoder()
        var decoder = HPACKDecoder()
        var blocks: [[UInt8]] = []
        var list: HTTP2HeaderList = [
            "content-type": "application/grpc", "server": "istio-envoy", "date": "Thu, 26 Nov 2026 07:00:00 GMT",
            "x-request-id": "1f0e", "set-cookie": "a=b", "x-unknown": "1",
        ]
        list.append("authorization", "secret", sensitive: true)
        for _ in 0..<2 {
            var block: [UInt8] = []
            encoder.begin(&block)
            encoder.append(list, to: &block)
            #expect(try decoder.decode(block) == list)
            blocks.append(block)
        }
        #expect(decoder.tableCount == 3)
        #expect(blocks[1].count < blocks[0].count - 30)
    }
}
