import MeshDNS
import MeshModel
import Testing

/// Bytes as hexadecimal digits; blanks are for the reader.
func hex(_ text: String) -> [UInt8] {
    let digits = text.filter { $0 != " " && $0 != "\n" }.map { UInt8(String($0), radix: 16)! }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

func name(_ text: String) -> DNSName { DNSName(text)! }

func question(
    _ text: String, _ type: DNSRecordType = .a, id: UInt16 = 0xbeef, edns: UInt16? = nil
) -> [UInt8] {
    var header = DNSHeader(id: id, flags: DNSHeader.recursionDesired)
    header.questions = 1
    header.additionals = edns == nil ? 0 : 1
    var bytes = header.bytes + name(text).wire + [0, UInt8(type.rawValue >> 8), UInt8(type.rawValue & 255), 0, 1]
    if let edns { bytes += [0, 0, 41, UInt8(edns >> 8), UInt8(edns & 255), 0, 0, 0, 0, 0, 0] }
    return bytes
}

@Suite("A domain name")
struct DNSNameTests {
    @Test("is bounded: 63 bytes a label, 255 in all, no empty label")
    func bounds() {
        let label = String(repeating: "a", count: 63)
        #expect(DNSName(label) != nil)
        #expect(DNSName(label + "a") == nil)
        #expect(DNSName("\(label).\(label).\(label).\(String(repeating: "b", count: 61))") != nil)
        #expect(DNSName("\(label).\(label).\(label).\(String(repeating: "b", count: 62))") == nil)
        for text in ["", "a..b", ".a", ".."] { #expect(DNSName(text) == nil, "\(text)") }
        #expect(DNSName(".") == .root)
    }

    @Test("is the same in any case, and keeps its own")
    func letterCase() {
        #expect(name("WWW.Example.org") == name("www.example.ORG."))
        #expect(Set([name("A.b"), name("a.B")]).count == 1)
        #expect(name("WWW.Example.org").hostname == "www.example.org")
        #expect(name("WWW.Example.org").description == "WWW.Example.org.")
        // 0x40 and 0x5b are not letters: @ and ` differ by the same bit.
        #expect(name("@") != name("`"))
    }

    @Test("with a dot inside a label is no host name")
    func dotInside() throws {
        let odd = try #require(DNSName(labels: [Array("a.b".utf8)[...], Array("c".utf8)[...]]))
        #expect(odd.hostname == nil)
        #expect(odd.description == "a\\.b.c.")
        #expect(odd != name("a.b.c"))
    }
}

@Suite("Reading DNS messages")
struct DNSReaderTests {
    @Test("a query of dig, with EDNS and a cookie")
    func dig() throws {
        // dig +dnssec A www.example.org, as captured: AD set, EDNS 1232, DO, a cookie of 8 bytes.
        let bytes = hex(
            """
            1234 0120 0001 0000 0000 0001 03777777 07657861 6d706c65 036f7267 00 0001 0001
            00 0029 04d0 0000 8000 000c 000a 0008 0102030405060708
            """)
        let query = try DNSQuery(bytes)
        #expect(query.question == DNSQuery.Question(name("www.example.org"), .a))
        #expect(query.edns == DNSQuery.Extension(payloadBytes: 1232, isDNSSECWanted: true))
        #expect(query.answerBytesMax(over: .udp) == 1232)
        #expect(query.addressQuestion?.name == name("www.example.org"))
    }

    @Test("pointers lead back, never to themselves, forward or around")
    func pointers() throws {
        func read(_ tail: String, at: Int = 12) throws -> DNSName {
            var reader = DNSReader(Array(repeating: 0, count: 12) + hex(tail), at: at)
            return try reader.name()
        }
        #expect(try read("0161 00 0162 c00c", at: 15) == name("b.a"))
        for loop in ["c00c", "c00e c00c", "0161 c00c", "c00d 00", "c0"] {
            #expect(throws: DNSMalformed.self, "\(loop)") { try read(loop) }
        }
        // Two names that point at each other.
        #expect(throws: DNSMalformed.self) { try read("0161 c010 0162 c00c", at: 16) }
        for type in ["40", "80", "7f"] { #expect(throws: DNSMalformed.self) { try read(type + "61 00") } }
    }

    @Test("a chain of pointers ends, however long")
    func chain() {
        var bytes = Array(repeating: UInt8(0), count: 12) + [1, 0x61, 0]
        var last = 12
        while bytes.count < 4000 {
            let here = bytes.count
            bytes += [0xc0 | UInt8(last >> 8), UInt8(last & 255)]
            last = here
        }
        var reader = DNSReader(bytes, at: last)
        #expect(throws: DNSMalformed.self) { try reader.name() }
    }

    @Test("names that grow too long through pointers are refused")
    func overlong() {
        var bytes = Array(repeating: UInt8(0), count: 12)
        // 63 bytes and the end, then four times 63 bytes and a pointer to the one before.
        var last = bytes.count
        bytes += [63] + Array(repeating: 0x61, count: 63) + [0]
        for _ in 0..<4 {
            let here = bytes.count
            bytes += [63] + Array(repeating: 0x61, count: 63) + [0xc0 | UInt8(last >> 8), UInt8(last & 255)]
            last = here
        }
        var reader = DNSReader(bytes, at: last)
        #expect(throws: DNSMalformed.self) { try reader.name() }
    }

    @Test("what is cut anywhere is refused, and counts may not promise more than there is")
    func cut() throws {
        let whole = question("www.example.org", edns: 1232)
        #expect((try? DNSQuery(whole)) != nil)
        for count in 0..<12 { #expect(throws: DNSQuery.Refusal.ignored) { try DNSQuery(Array(whole.prefix(count))) } }
        for count in 12..<whole.count {
            #expect(throws: DNSQuery.Refusal.answered(.formatError), "\(count)") {
                try DNSQuery(Array(whole.prefix(count)))
            }
        }
        for section in [4, 6, 8, 10] {
            var lying = whole
            lying[section] = 0xff
            #expect(throws: DNSQuery.Refusal.answered(.formatError)) { try DNSQuery(lying) }
        }
    }

    @Test("a response is no query; other opcodes are not ours to judge")
    func opcodes() throws {
        var bytes = question("a.b")
        bytes[2] |= 0x80
        #expect(throws: DNSQuery.Refusal.ignored) { try DNSQuery(bytes) }
        var update = hex("0001 2800 0001 0000 0001 0000 ff")
        #expect(try DNSQuery(update).addressQuestion == nil)
        update[2] = 0x30  // DSO, RFC 8490: no sections at all
        #expect(try DNSQuery(update).header.opcode == 6)
    }

    @Test("only plain questions for addresses are ours")
    func ours() throws {
        #expect(try DNSQuery(question("a.b", .a)).addressQuestion?.isV6 == false)
        #expect(try DNSQuery(question("a.b", .aaaa)).addressQuestion?.isV6 == true)
        for type in [DNSRecordType.ns, .srv, .https, .any, .txt] {
            #expect(try DNSQuery(question("a.b", type)).addressQuestion == nil)
        }
        var chaos = question("a.b")
        chaos[chaos.count - 1] = 3
        #expect(try DNSQuery(chaos).addressQuestion == nil)
        var newer = question("a.b", edns: 512)
        newer[newer.count - 5] = 1  // EDNS version 1
        #expect(try DNSQuery(newer).addressQuestion == nil)
        // A name that points into the header.
        #expect(try DNSQuery(hex("0000 0100 0001 0000 0000 0000 0161 c004 0001 0001")).addressQuestion == nil)
        // No question: an exchange of cookies (RFC 7873, 5.4).
        #expect(try DNSQuery(hex("0001 0000 0000 0000 0000 0000")).question == nil)
    }
}

@Suite("Writing DNS messages")
struct DNSWriterTests {
    private func answer(
        _ addresses: [String], to bytes: [UInt8], alias: String? = nil, zoneLabels: Int = 2, bytesMax: Int = 65_535
    ) throws -> [UInt8] {
        DNSWriter.answer(
            MeshAnswer(
                alias: alias.map(name), addresses: addresses.map { IPAddress($0)! }, zoneLabels: zoneLabels,
                hostname: "h"), to: try DNSQuery(bytes), bytes, bytesMax: bytesMax)
    }

    @Test("an address: authoritative, with the question as it was asked")
    func address() throws {
        #expect(
            try self.answer(["10.0.0.1"], to: question("Web.ns1"))
                == hex(
                    """
                    beef 8580 0001 0001 0000 0000 03576562 036e7331 00 0001 0001
                    c00c 0001 0001 0000001e 0004 0a000001
                    """))
    }

    @Test("an alias, and the addresses under its target")
    func alias() throws {
        let bytes = try self.answer(["10.0.0.1", "10.0.0.2"], to: question("web.ns1.cluster.local"), alias: "web.ns1")
        let read = try #require(
            DNSAddresses(bytes, for: .init(name("web.ns1.cluster.local"), .a)))
        #expect(read == DNSAddresses(addresses: [IPAddress("10.0.0.1")!, IPAddress("10.0.0.2")!], ttlSeconds: 30))
        #expect(DNSHeader(bytes)?.answers == 3)
    }

    @Test("nothing: with a start of authority that says for how long")
    func negative() throws {
        let bytes = try self.answer([], to: question("web.ns1.svc.cluster.local", .aaaa, edns: 1400))
        let header = try #require(DNSHeader(bytes))
        #expect(header.code == .noError && header.authorities == 1 && header.answers == 0 && header.additionals == 1)
        var reader = DNSReader(bytes)
        try reader.skipName()
        try reader.skip(4)
        var owner = reader
        #expect(try owner.name() == name("cluster.local"))
        let record = try reader.record()
        #expect(record.type == .soa && record.ttl == 30)
        var data = DNSReader(bytes, at: record.data.lowerBound)
        #expect(try data.name() == name("ns.dns.cluster.local"))
        #expect(try data.name() == name("hostmaster.cluster.local"))
        #expect(data.position + 20 == record.data.upperBound)
        let option = try reader.record()
        #expect(option.type == .opt && option.recordClass == 1400)
        #expect(DNSAddresses(bytes, for: .init(name("web.ns1.svc.cluster.local"), .aaaa))?.ttlSeconds == 30)
    }

    @Test("too much for UDP: as many as fit, and the bit that says so")
    func truncated() throws {
        let addresses = (1...200).map { "10.0.0.\($0)" }
        let short = try self.answer(addresses, to: question("web.ns1"), bytesMax: 512)
        #expect(short.count <= 512 && short.count > 512 - 16)
        #expect(DNSHeader(short)?.isTruncated == true && DNSHeader(short)?.answers == 30)
        let long = try self.answer(addresses, to: question("web.ns1"))
        #expect(DNSHeader(long)?.isTruncated == false && DNSHeader(long)?.answers == 200)
    }

    @Test("a refusal repeats the question and the extension")
    func refusal() throws {
        let bytes = try #require(DNSWriter.refusal(of: question("a.b", .srv, edns: 4096), .serverFailure))
        #expect(bytes == hex("beef 8182 0001 0000 0000 0001 0161 0162 00 0021 0001 00 0029 1000 00000000 0000"))
        #expect(DNSWriter.refusal(of: [1, 2], .serverFailure) == nil)
        #expect(DNSWriter.refusal(of: hex("0001 0000 0001 0000 0000 0000 ff"), .formatError)?.count == 12)
    }

    @Test("a resolver's answer is cut between records, its extension kept")
    func fitted() throws {
        var header = DNSHeader(id: 1, flags: DNSHeader.response)
        (header.questions, header.answers, header.additionals) = (1, 100, 2)
        var bytes = header.bytes + hex("0161 00 0001 0001")
        for index in 0..<100 { bytes += hex("c00c 0001 0001 00000001 0004") + [10, 0, 0, UInt8(index)] }
        bytes += hex("c00c 0010 0001 00000001 0002 0178") + hex("00 0029 04d0 00000000 0000")
        let fitted = DNSTruncation.fitted(bytes, bytesMax: 512)
        let cut = try #require(DNSHeader(fitted))
        #expect(fitted.count <= 512 && fitted.count > 512 - 16)
        #expect(cut.isTruncated && cut.answers == 30 && cut.additionals == 1)
        #expect(Array(fitted.suffix(11)) == hex("00 0029 04d0 00000000 0000"))
        #expect(DNSTruncation.fitted(bytes, bytesMax: 65_535) == bytes)
        // Only the additional text does not fit: that is no truncation.
        let whole = DNSTruncation.fitted(bytes, bytesMax: bytes.count - 14)
        #expect(DNSHeader(whole)?.answers == 100 && DNSHeader(whole)?.isTruncated == false)
        // A datagram that ended in the middle of a record.
        let half = DNSTruncation.fitted(Array(bytes.prefix(100)), bytesMax: 512)
        #expect(DNSHeader(half)?.isTruncated == true && DNSHeader(half)?.answers == 5)
    }
}

@Suite("An exchange with a resolver")
struct DNSExchangeTests {
    private func exchange(_ bytes: [UInt8]) throws -> DNSExchange { DNSExchange(bytes, try DNSQuery(bytes), id: 7) }
    private func answered(_ bytes: [UInt8], _ change: (inout [UInt8]) -> Void = { _ in }) -> [UInt8] {
        var bytes = bytes
        (bytes[0], bytes[1]) = (0, 7)
        bytes[2] |= 0x80
        change(&bytes)
        return bytes
    }

    @Test("changes the id and nothing else, and changes it back")
    func id() throws {
        let bytes = question("a.b", .https, edns: 1232)
        let exchange = try self.exchange(bytes)
        #expect(exchange.bytes == [0, 7] + bytes.dropFirst(2))
        #expect(exchange.restored([0, 7, 1, 2, 3]) == [0xbe, 0xef, 1, 2, 3])
    }

    @Test("takes only its own answer")
    func matching() throws {
        let bytes = question("a.b")
        let exchange = try self.exchange(bytes)
        #expect(exchange.isAnswered(by: self.answered(bytes)))
        #expect(exchange.isAnswered(by: self.answered(question("A.b"))))
        #expect(!exchange.isAnswered(by: self.answered(bytes) { $0[1] = 8 }))
        #expect(!exchange.isAnswered(by: self.answered(bytes) { $0[2] &= 0x7f }))
        #expect(!exchange.isAnswered(by: self.answered(question("a.c"))))
        #expect(!exchange.isAnswered(by: self.answered(question("a.b", .aaaa))))
        #expect(!exchange.isAnswered(by: self.answered(hex("0000 0000 0000 0000 0000 0000"))))
        #expect(exchange.isAnswered(by: self.answered(hex("0000 0005 0000 0000 0000 0000"))), "a bare refusal")
    }

    @Test("sends an update only once")
    func repeatable() throws {
        #expect(try self.exchange(question("a.b")).isRepeatable)
        #expect(try !self.exchange(question("a.b", .axfr)).isRepeatable)
        #expect(try !self.exchange(hex("0001 2800 0000 0000 0000 0000")).isRepeatable)
    }
}

@Suite("Random DNS messages")
struct DNSPropertyTests {
    @Test("what is written is read back", arguments: 0..<200 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var random = Draws(seed: seed)
        let labels = (0..<Int.random(in: 1...6, using: &random)).map { _ in
            (0..<Int.random(in: 1...20, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }[...]
        }
        let asked = try #require(DNSName(labels: labels))
        let isV6 = Bool.random(using: &random)
        let id = UInt16.random(in: .min ... .max, using: &random)
        let wanted = DNSQuery.Question(asked, isV6 ? .aaaa : .a)
        let bytes = DNSWriter.query(id: id, wanted, payloadBytes: 1232)
        let query = try DNSQuery(bytes)
        #expect(query.question == wanted && query.header.id == id && query.edns?.payloadBytes == 1232)
        let addresses = (0..<Int.random(in: 0...50, using: &random)).map { _ in
            isV6
                ? IPAddress(v6High: 0x2001_0db8_0000_0000, low: .random(in: .min ... .max, using: &random))
                : IPAddress(v4: .random(in: .min ... .max, using: &random))
        }
        let alias = addresses.isEmpty || Bool.random(using: &random) ? nil : asked.prefix(labels: 1)
        let answer = MeshAnswer(
            alias: alias, addresses: addresses, zoneLabels: Int.random(in: 1...labels.count, using: &random),
            hostname: "h")
        let reply = DNSWriter.answer(answer, to: query, bytes, bytesMax: 65_535)
        #expect(DNSAddresses(reply, for: wanted)?.addresses == addresses, "seed \(seed)")
        #expect(DNSTruncation.fitted(reply, bytesMax: 65_535) == reply, "every count is true")
    }

    @Test("broken bytes break nothing", arguments: 0..<200 as Range<UInt64>)
    func broken(seed: UInt64) {
        var random = Draws(seed: seed)
        var bytes = question("www.example.ns1.svc.cluster.local", .aaaa, edns: 1232)
        for _ in 0..<50 {
            switch Int.random(in: 0..<3, using: &random) {
            case 0 where !bytes.isEmpty:
                bytes[Int.random(in: bytes.indices, using: &random)] = .random(in: 0...255, using: &random)
            case 1: bytes.append(.random(in: 0...255, using: &random))
            default: bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count + 3, using: &random)))
            }
            fuzzDNSMessage(bytes)
            if bytes.count < 12 { bytes = question("a.b", edns: 512) }
        }
    }
}
