import KubeAPI
import KubeClient
import LabControllers
import Logging
import Testing

/// Numbers that are the same in every run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var z = self.state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

private func name(_ text: String) throws -> DNSName { try #require(DNSName(text)) }

@Suite("DNS messages")
struct DNSMessageTests {
    @Test("a query comes back as it was written")
    func query() throws {
        let query = DNSQuery(
            id: 0xbeef, question: DNSQuestion(try name("Web.ns.svc.cluster.local"), .a), payloadBytes: 4096)
        #expect(try DNSReader.query(DNSWriter.query(query)) == query)
    }

    @Test("a query as dig sends it")
    func dig() throws {
        // dig +noedns A a.b
        let bytes: [UInt8] = [0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 1, 0x62, 0, 0, 1, 0, 1]
        let query = try DNSReader.query(bytes)
        #expect(query == DNSQuery(id: 0x1234, question: DNSQuestion(try name("a.b"), .a)))
    }

    @Test("names in answers are compressed and read back")
    func compression() throws {
        let owner = try name("alias.example.org")
        let target = try name("www.example.org")
        let query = DNSQuery(id: 7, question: DNSQuestion(owner, .a))
        let answers = [
            DNSRecord(owner, ttl: 5, .cname(target)), DNSRecord(target, ttl: 9, .a(0x0a2a_0005)),
            DNSRecord(target, ttl: 9, .aaaa(Array(1...16))),
        ]
        let bytes = DNSWriter.response(DNSResponse(.noError, answers: answers), to: query, bytesMax: 512)
        let reply = try #require(DNSReader.reply(bytes))
        #expect(reply.answers == answers && reply.question == query.question && !reply.isTruncated)
        // "example.org" once.
        #expect(bytes.count { $0 == UInt8(ascii: "x") } == 1)
    }

    @Test("an answer that does not fit is cut, and says so")
    func truncation() throws {
        let owner = try name("many.example")
        let query = DNSQuery(id: 7, question: DNSQuestion(owner, .a), payloadBytes: 512)
        let answers = (0..<100).map { DNSRecord(owner, ttl: 5, .a(UInt32($0))) }
        let bytes = DNSWriter.response(DNSResponse(.noError, answers: answers), to: query, bytesMax: 512)
        let reply = try #require(DNSReader.reply(bytes))
        #expect(bytes.count <= 512 && reply.isTruncated && reply.answers.isEmpty)
    }

    @Test("what is no query is ignored or answered with its fault")
    func malformed() throws {
        let good = DNSWriter.query(DNSQuery(id: 0x0102, question: DNSQuestion(try name("a.b"), .a)))
        #expect(throws: DNSMalformed.ignored) { try DNSReader.query(Array(good.prefix(11))) }
        #expect(throws: DNSMalformed.answered(id: 0x0102, .formatError)) { try DNSReader.query(Array(good.dropLast())) }
        var response = good
        response[2] |= 0x80
        #expect(throws: DNSMalformed.ignored) { try DNSReader.query(response) }
        var update = good
        update[2] = 5 << 3
        #expect(throws: DNSMalformed.answered(id: 0x0102, .notImplemented)) { try DNSReader.query(update) }
        var chaos = good
        chaos[good.count - 1] = 3
        #expect(throws: DNSMalformed.answered(id: 0x0102, .refused)) { try DNSReader.query(chaos) }
        // A name that points at itself.
        let loop: [UInt8] = Array(good.prefix(12)) + [0xc0, 12, 0, 1, 0, 1]
        #expect(throws: DNSMalformed.answered(id: 0x0102, .formatError)) { try DNSReader.query(loop) }
    }

    @Test("no bytes crash the reader", arguments: [1, 2, 3, 4] as [UInt64])
    func fuzz(seed: UInt64) throws {
        var generator = SeededGenerator(state: seed)
        let owner = try name("alias.example.org")
        let query = DNSQuery(id: 7, question: DNSQuestion(owner, .a), payloadBytes: 1232)
        let seeds = [
            DNSWriter.query(query),
            DNSWriter.response(
                DNSResponse(.noError, answers: [DNSRecord(owner, ttl: 5, .cname(try name("www.example.org")))]),
                to: query,
                bytesMax: 512),
        ]
        for _ in 0..<5_000 {
            var bytes = seeds[Int.random(in: 0..<2, using: &generator)]
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                switch Int.random(in: 0..<3, using: &generator) {
                case 0 where !bytes.isEmpty: bytes.removeLast(Int.random(in: 1...bytes.count, using: &generator))
                case 1:
                    bytes.insert(
                        UInt8.random(in: 0...255, using: &generator),
                        at: Int.random(in: 0...bytes.count, using: &generator))
                default:
                    if bytes.isEmpty { continue }
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                        in: 0...255, using: &generator)
                }
            }
            _ = try? DNSReader.query(bytes)
            _ = DNSReader.reply(bytes)
        }
    }

    @Test("names have bounds")
    func bounds() {
        #expect(DNSName(String(repeating: "a", count: 64)) == nil)
        #expect(DNSName(Array(repeating: String(repeating: "a", count: 63), count: 4).joined(separator: ".")) == nil)
        #expect(DNSName("a..b") == nil)
        #expect(DNSName("a.b.")?.labels.count == 2)
    }
}

@Suite("The cluster's zone")
struct ClusterZoneTests {
    static func service(_ name: String, _ spec: [String: JSONValue]) -> KubeObject {
        KubeObject(.services, namespace: "ns", name: name, ["spec": .object(spec)])
    }
    static let services = [
        service("web", ["clusterIP": "10.43.0.7", "ports": [["name": "http", "port": 80, "protocol": "TCP"]]]),
        service("db", ["clusterIP": "None"]), service("empty", ["clusterIP": "None"]),
        service("out", ["type": "ExternalName", "externalName": "example.org"]),
        service("alias", ["type": "ExternalName", "externalName": "web.ns.svc.cluster.local"]),
    ]
    static let slice = KubeObject(
        .endpointSlices, namespace: "ns", name: "db-1", labels: [EndpointSlices.serviceLabel: "db"],
        [
            "addressType": "IPv4", "ports": [["name": "sql", "port": 5432, "protocol": "TCP"]],
            "endpoints": [
                ["addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": ["ready": true]],
                ["addresses": ["10.42.0.6"], "conditions": ["ready": true]],
                ["addresses": ["10.42.0.7"], "conditions": ["ready": false]],
            ],
        ])

    private func ask(_ text: String, _ type: DNSType = .a) throws -> ClusterZone.Answer {
        let zone = ClusterZone(
            domain: try name("cluster.local"),
            objects: .init(
                hasNamespace: { $0 == "ns" },
                service: { key in Self.services.first { $0.name == key.name && key.namespace == "ns" } },
                slices: { $0.name == "db" ? [Self.slice] : [] }, services: { Self.services }))
        return zone.answer(DNSQuestion(try name(text), type))
    }
    private func response(_ text: String, _ type: DNSType = .a) throws -> DNSResponse {
        guard case .response(let response) = try self.ask(text, type) else {
            Issue.record("not answered by the zone: \(text)")
            return DNSResponse(.serverFailure)
        }
        return response
    }
    private func addresses(_ response: DNSResponse) -> Set<UInt32> {
        Set(response.answers.compactMap { if case .a(let address) = $0.value { address } else { nil } })
    }

    @Test("knows a service by its ClusterIP, in any case of letters")
    func clusterIP() throws {
        #expect(self.addresses(try self.response("WEB.ns.svc.Cluster.local")) == [0x0a2b_0007])
    }

    @Test("answers AAAA of a service with nothing, not with its absence")
    func noIPv6() throws {
        let response = try self.response("web.ns.svc.cluster.local", .aaaa)
        #expect(response.code == .noError && response.answers.isEmpty)
        #expect(response.authority.first?.type == .soa)
    }

    @Test(
        "says that a name is absent",
        arguments: [
            "nope.ns.svc.cluster.local", "web.other.svc.cluster.local", "web.ns.foo.cluster.local",
            "x.web.ns.svc.cluster.local", "example.org.ns.svc.cluster.local",
        ])
    func absent(text: String) throws { #expect(try self.response(text).code == .nameError) }

    @Test("knows headless services by their ready endpoints, and each endpoint by name")
    func headless() throws {
        #expect(self.addresses(try self.response("db.ns.svc.cluster.local")) == [0x0a2a_0005, 0x0a2a_0006])
        #expect(self.addresses(try self.response("db-0.db.ns.svc.cluster.local")) == [0x0a2a_0005])
        #expect(self.addresses(try self.response("10-42-0-6.db.ns.svc.cluster.local")) == [0x0a2a_0006])
        let empty = try self.response("empty.ns.svc.cluster.local")
        #expect(empty.code == .noError && empty.answers.isEmpty)
    }

    @Test("knows ports")
    func ports() throws {
        let clusterIP = try self.response("_http._tcp.web.ns.svc.cluster.local", .srv)
        #expect(
            clusterIP.answers.map(\.value) == [
                .srv(priority: 0, weight: 100, port: 80, target: try name("web.ns.svc.cluster.local"))
            ])
        #expect(clusterIP.additional.count == 1)
        let headless = try self.response("_sql._tcp.db.ns.svc.cluster.local", .srv)
        #expect(headless.answers.count == 2)
        #expect(try self.response("_nope._tcp.db.ns.svc.cluster.local", .srv).code == .nameError)
    }

    @Test("follows names inside, and leaves names outside to others")
    func external() throws {
        #expect(self.addresses(try self.response("alias.ns.svc.cluster.local")) == [0x0a2b_0007])
        guard case .chase(let target, let soFar) = try self.ask("out.ns.svc.cluster.local") else {
            Issue.record("not chased")
            return
        }
        #expect(target == (try name("example.org")) && soFar.answers.count == 1)
        #expect(try self.ask("example.org") == .forward)
    }

    @Test("knows pods by their address, and addresses by their names")
    func reverse() throws {
        #expect(self.addresses(try self.response("10-42-3-9.ns.pod.cluster.local")) == [0x0a2a_0309])
        #expect(
            try self.response("7.0.43.10.in-addr.arpa", .ptr).answers.map(\.value) == [
                .ptr(try name("web.ns.svc.cluster.local"))
            ])
        #expect(
            try self.response("5.0.42.10.in-addr.arpa", .ptr).answers.map(\.value) == [
                .ptr(try name("db-0.db.ns.svc.cluster.local"))
            ])
        #expect(try self.ask("1.2.3.4.in-addr.arpa", .ptr) == .forward)
    }
}
