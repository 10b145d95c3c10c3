import MeshExchange
import MeshHTTP
import MeshRoutes
import Testing

/// Clients that take their time: for a head, or to read an answer. Time is the test's own.
@Suite("Slow clients of a waypoint")
struct SlowClientTests {
    private static let request = "GET / HTTP/1.1\r\nhost: cart\r\n\r\n"

    @Test("a head that dribbles is answered with 408, wherever it stands", arguments: [1, 3, 5, 20])
    func dribble(_ first: Int) {
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver(String(Self.request.prefix(first)))
        for octet in Self.request.dropFirst(first).prefix(5) {
            waypoint.settle(after: .seconds(5))
            client.deliver(String(octet))
        }
        #expect(!client.isOver)
        // Another half a minute at most, where the protocol was not clear before.
        for _ in 0..<7 { waypoint.settle(after: .seconds(5)) }
        let text = String(decoding: client.take(), as: UTF8.self)
        #expect(text.hasPrefix("HTTP/1.1 408 ") && text.contains("connection: close\r\n"))
        #expect(client.isOver && waypoint.upstreams.isEmpty)
        let report = waypoint.exchanges.reports.all.last
        #expect(report?.flags == .idleTimeout && report?.response?.status == 408)
        waypoint.settle(after: .seconds(6))
        #expect(waypoint.server.occupancy.connections == 0)
    }

    @Test("the second head of a connection too, and not the time between two")
    func second() {
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        for _ in 0..<2 {
            client.deliver(Self.request)
            waypoint.answerAll()
            #expect(String(decoding: client.take(), as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
            waypoint.settle(after: .seconds(100))
        }
        client.deliver("GET")
        waypoint.settle(after: .seconds(29))
        #expect(!client.isOver)
        waypoint.settle(after: .seconds(2))
        #expect(String(decoding: client.take(), as: UTF8.self).hasPrefix("HTTP/1.1 408 "))
    }

    @Test("a body may take as long as its route lets it")
    func body() {
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver("POST / HTTP/1.1\r\nhost: cart\r\ncontent-length: 4\r\n\r\n")
        for octet in "body" {
            waypoint.settle(after: .seconds(60))
            client.deliver(String(octet))
        }
        waypoint.answerAll()
        #expect(String(decoding: client.take(), as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
    }

    @Test("a header block of HTTP/2 that dribbles ends the connection, also without any stream")
    func block() {
        let waypoint = MemoryWaypoint()
        let client = waypoint.client()
        client.send(.headers, [], 1, Array(getBlock[..<3]))
        for _ in 0..<2 {
            waypoint.settle(after: .seconds(14))
            client.send(.continuation, [], 1, [])
            #expect(client.goAways.isEmpty)
        }
        for _ in 0..<2 { waypoint.settle(after: .seconds(14)) }
        client.listen()
        #expect(client.goAways == [.enhanceYourCalm] && client.channel.isOver)
        waypoint.settle(after: .seconds(6))
        #expect(waypoint.server.occupancy.connections == 0)
    }

    @Test("a client of HTTP/1 that reads nothing is given up, and one that reads a little is not")
    func unread() {
        let waypoint = MemoryWaypoint()
        let clients = [waypoint.accept(), waypoint.accept()]
        for client in clients { client.deliver(Self.request) }
        waypoint.settle()
        for upstream in waypoint.upstreams {
            _ = upstream.take()
            upstream.deliver("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        }
        let piece = String(repeating: "x", count: 512 << 10)
        for _ in 0..<4 {
            for upstream in waypoint.upstreams { upstream.deliver(piece) }
            waypoint.settle(after: .seconds(100))
            _ = clients[1].take()
            waypoint.settle()
        }
        #expect(clients[0].wasReset && !clients[1].isOver)
        #expect(waypoint.upstreams.count { $0.wasReset } == 1)
        #expect(waypoint.exchanges.reports.all.map(\.flags) == [.idleTimeout])
    }
}
