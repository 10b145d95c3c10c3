import MeshExchange
import MeshHTTP
import MeshRoutes
import Testing

/// Bodies of HTTP/1 that break off or could be read in two ways, and requests beyond a limit. No sockets: what an endpoint
/// hears is looked at octet by octet.
@Suite("Bodies that could mean two things, sent to a waypoint")
struct SmugglingChunkTests {
    private static let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"

    static let broken: [(String, Int)] = [
        ("x\r\n", 400), ("-1\r\n", 400), ("+2\r\ncd\r\n", 400), ("0x2\r\ncd\r\n", 400), ("2h\r\ncd\r\n", 400),
        (" 2\r\ncd\r\n", 400), ("2 \r\ncd\r\n", 400), ("2 3\r\ncd\r\n", 400), ("\r\n2\r\ncd\r\n", 400),
        (";x\r\n", 400), ("1000000000000000\r\n", 400), ("fffffffffffffffffff2\r\ncd\r\n", 400),
        ("5\r\nhello!\r\n", 400), ("5\r\nhello0\r\n\r\n", 400), ("5\nhello\r\n", 400), ("5\r\nhello\n0\r\n\r\n", 400),
        ("2\rcd\r\n", 400), ("2;\u{0}\r\ncd\r\n", 400), ("2;a\rb\r\ncd\r\n", 400), ("2;a\ncd\r\n", 400),
        ("2;\(String(repeating: "a", count: 300))\r\ncd\r\n", 400), ("0\r\nX: 1\n\r\n", 400), ("0\n\n", 400),
        ("0\r\n X: 1\r\n\r\n", 400), ("0\r\nX: 1\r\n 2\r\n\r\n", 400), ("0\r\nX : 1\r\n\r\n", 400),
        ("0\r\nX: \u{0}\r\n\r\n", 400), ("0\r\nX: a\rb\r\n\r\n", 400), ("0\r\nX\r\n\r\n", 400),
        ("0\r\nContent-Length: 3\r\n\r\n", 400), ("0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("0\r\nHost: b\r\n\r\n", 400), ("0\r\nX: \(String(repeating: "a", count: 17 << 10))\r\n\r\n", 431),
    ]

    @Test("break their request, and nothing behind them is one", arguments: broken.indices)
    func chunks(_ index: Int) {
        let (body, status) = Self.broken[index]
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver(Self.head)
        waypoint.settle()
        client.deliver(body + Self.request)
        let answer = String(decoding: client.take(), as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(body.debugDescription): \(answer)")
        #expect(answer.contains("connection: close\r\n") && client.hasFinished)
        let heard = String(decoding: waypoint.upstreams[0].take(), as: UTF8.self)
        #expect(!heard.contains("0\r\n\r\n") && !heard.contains("smuggled"), "\(heard)")
        #expect(waypoint.upstreams[0].wasReset, "at once")
        #expect(waypoint.exchanges.reports.all.map(\.flags) == [.clientProtocolError])
        waypoint.settle()
        #expect(waypoint.upstreams.count == 1)
    }

    @Test("all at once: the endpoint hears of none of it", arguments: broken.indices)
    func early(_ index: Int) {
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver(Self.head + Self.broken[index].0 + Self.request)
        waypoint.settle()
        #expect(String(decoding: client.take(), as: UTF8.self).hasPrefix("HTTP/1.1 \(Self.broken[index].1) "))
        // The connection that was being made has carried nothing and may serve another.
        #expect(waypoint.upstreams.allSatisfy { $0.queuedBytes == 0 && !$0.isOver })
        #expect(waypoint.server.occupancy.active == 0 && waypoint.server.occupancy.exchanges == 0)
    }

    private static let request = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"

    static let large: [(String, String, Int)] = [
        ("a head", "GET / HTTP/1.1\r\nhost: a\r\nx: \(String(repeating: "a", count: 64 << 10))\r\n\r\n", 431),
        ("a head without an end", "GET / HTTP/1.1\r\nhost: a\r\nx: \(String(repeating: "a", count: 64 << 10))", 431),
        ("a name", "GET / HTTP/1.1\r\nhost: a\r\n\(String(repeating: "a", count: 65 << 10)): b\r\n\r\n", 431),
        (
            "many fields", "GET / HTTP/1.1\r\nhost: a\r\n\(String(repeating: "x: y\r\n", count: 256))\r\n", 431
        ),
        ("a target", "GET /\(String(repeating: "a", count: 16 << 10)) HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        ("a method", "\(String(repeating: "A", count: 33)) / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("a body of many digits", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999999999999\r\n\r\n", 400),
    ]

    @Test("what is larger than its limit is refused", arguments: large.indices)
    func limits(_ index: Int) {
        let (name, text, status) = Self.large[index]
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver(text + Self.request)
        waypoint.settle()
        let answer = String(decoding: client.take(), as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(name): \(answer)")
        #expect(client.hasFinished && waypoint.upstreams.isEmpty, "\(name)")
        #expect(waypoint.exchanges.reports.all.map { $0.response?.status } == [status], "\(name)")
    }

    @Test("names in Connection take nothing from the framing")
    func hopByHop() {
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: content-length, host, x-user\r\nx-user: me\r\n"
                + "content-length: 4\r\n\r\nGET " + Self.request)
        waypoint.settle()
        let heard = String(decoding: waypoint.upstreams[0].take(), as: UTF8.self)
        #expect(heard.hasPrefix("POST / HTTP/1.1\r\nhost: a\r\n") && !heard.contains("x-user"))
        #expect(heard.hasSuffix("\r\n\r\n4\r\nGET \r\n0\r\n\r\n"), "\(heard)")
    }

    @Test("a bad request behind a good one: the first is answered, the second refused")
    func behind() {
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n" + Self.request)
        waypoint.answerAll()
        client.pump()
        let answers = String(decoding: client.take(), as: UTF8.self)
        #expect(answers.hasPrefix("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 400 ") && client.hasFinished)
        #expect(waypoint.exchanges.reports.all.count == 2 && waypoint.upstreams.count == 1)
    }
}
