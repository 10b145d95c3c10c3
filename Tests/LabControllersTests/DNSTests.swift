import KubeAPI
import KubeClient
import LabControllers
import Logging
import MeshDNS
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

@Suite("Responses of the cluster's DNS")
struct DNSMessageTests {
    private func query(_ question: DNSQuery.Question, payloadBytes: UInt16 = 1232) throws -> DNSQuery {
        try DNSQuery(DNSWriter.query(id: 7, question, payloadBytes: payloadBytes))
    }

    @Test("names in answers are compressed and read back")
    func compression() throws {
        let owner = try name("alias.example.org")
        let target = try name("www.Example.org")
        let question = DNSQuery.Question(owner, .a)
        let answers = [
            DNSRecord(owner, ttl: 5, .cname(target)), DNSRecord(target, ttl: 9, .a(0x0a2a_0005)),
            DNSRecord(target, ttl: 9, .aaaa(Array(1...16))),
        ]
        let bytes = DNSResponseWriter.response(
            DNSResponse(.noError, answers: answers), to: try self.query(question), question, bytesMax: 512)
        #expect(DNSRecord.answers(of: bytes) == answers)
        let header = try #require(DNSHeader(bytes))
        #expect(header.id == 7 && header.isResponse && header.code == .noError && !header.isTruncated)
        // "example.org" once.
        #expect(bytes.count { $0 == UInt8(ascii: "x") } == 1)
    }

    @Test("an answer that does not fit is cut, and says so")
    func truncation() throws {
        let owner = try name("many.example")
        let question = DNSQuery.Question(owner, .a)
        let answers = (0..<100).map { DNSRecord(owner, ttl: 5, .a(UInt32($0))) }
        let bytes = DNSResponseWriter.response(
            DNSResponse(.noError, answers: answers), to: try self.query(question), question, bytesMax: 512)
        #expect(bytes.count <= 512 && DNSHeader(bytes)?.isTruncated == true && DNSRecord.answers(of: bytes).isEmpty)
    }

    /// The code that a message is refused with; nil when it is ignored.
    private func refusal(_ bytes: [UInt8]) throws -> DNSResponseCode? {
        do throws(AskedQuestion.Fault) {
            _ = try AskedQuestion(bytes, isDatagram: true)
        } catch {
            guard case .answered(let message) = error else { return nil }
            let header = try #require(DNSHeader(message))
            #expect(header.isResponse && header.id == DNSHeader(bytes)?.id)
            return header.code
        }
        Issue.record("taken for a question: \(bytes)")
        return nil
    }

    @Test("what is no query is ignored or answered with its fault")
    func malformed() throws {
        // dig +noedns A a.b
        let good: [UInt8] = [0x12, 0x34, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 1, 0x62, 0, 0, 1, 0, 1]
        #expect(try AskedQuestion(good, isDatagram: true).question == DNSQuery.Question(try name("A.b"), .a))
        #expect(try self.refusal(Array(good.prefix(11))) == nil)
        #expect(try self.refusal(Array(good.dropLast())) == .formatError)
        var response = good
        response[2] |= 0x80
        #expect(try self.refusal(response) == nil)
        var update = good
        update[2] = 5 << 3
        #expect(try self.refusal(update) == .notImplemented)
        var chaos = good
        chaos[good.count - 1] = 3
        #expect(try self.refusal(chaos) == .refused)
        // A name that points at itself.
        #expect(try self.refusal(Array(good.prefix(12)) + [0xc0, 12, 0, 1, 0, 1]) == .formatError)
        var two = good
        two[5] = 2
        #expect(try self.refusal(two + good.dropFirst(12)) == .formatError)
    }

    @Test("a resolver's answer goes on under the client's id, cut to what the client takes")
    func passedOn() throws {
        let question = DNSQuery.Question(try name("many.example"), .a)
        let bytes = DNSWriter.query(id: 0xbeef, question, payloadBytes: 512)
        let answers = (0..<100).map { DNSRecord(question.name, ttl: 5, .a(UInt32($0))) }
        let resolvers = DNSResponseWriter.response(
            DNSResponse(.noError, answers: answers), to: try self.query(question), question, bytesMax: 65_535)
        let whole = try AskedQuestion(bytes, isDatagram: false).answered(as: resolvers)
        #expect(whole.prefix(2) == [0xbe, 0xef] && whole.dropFirst(2) == resolvers.dropFirst(2))
        let cut = try AskedQuestion(bytes, isDatagram: true).answered(as: resolvers)
        #expect(cut.count <= 512 && DNSHeader(cut)?.isTruncated == true && DNSHeader(cut)?.id == 0xbeef)
    }

    @Test("no bytes crash the reader of answers", arguments: [1, 2, 3, 4] as [UInt64])
    func fuzz(seed: UInt64) throws {
        var generator = SeededGenerator(state: seed)
        let question = DNSQuery.Question(try name("alias.example.org"), .a)
        let whole = DNSResponseWriter.response(
            DNSResponse(
                .noError,
                answers: [
                    DNSRecord(question.name, ttl: 5, .cname(try name("www.example.org"))),
                    DNSRecord(question.name, ttl: 5, .a(7)),
                ]), to: try self.query(question), question, bytesMax: 512)
        for _ in 0..<5_000 {
            var bytes = whole
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
            _ = DNSRecord.answers(of: bytes)
        }
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

    private func ask(_ text: String, _ type: DNSRecordType = .a) throws -> ClusterZone.Answer {
        let zone = ClusterZone(
            domain: try name("cluster.local"),
            objects: .init(
                hasNamespace: { $0 == "ns" },
                service: { key in Self.services.first { $0.name == key.name && key.namespace == "ns" } },
                slices: { $0.name == "db" ? [Self.slice] : [] }, services: { Self.services }))
        return zone.answer(DNSQuery.Question(try name(text), type))
    }
    private func response(_ text: String, _ type: DNSRecordType = .a) throws -> DNSResponse {
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
