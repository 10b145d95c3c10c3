import MeshExchange
import MeshHTTP
import MeshRoutes
import Testing

/// END_STREAM goes with the last octets where it is known that they are the last: a frame of its own would cost a client
/// another wake-up.
@Suite("The end of an HTTP/2 message")
struct HTTP2EndOfStreamTests {
    private static let pieces: [(String, [FramePeer.Said])] = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", [.data(1, Array("ok".utf8), end: true)]),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            [.data(1, Array("ok".utf8), end: true)]
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            [.data(1, Array("o".utf8), end: false), .data(1, Array("k".utf8), end: true)]
        ),
        // With trailers it is they who end it.
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
            [.data(1, Array("ok".utf8), end: false), .head(1, ["x": "y"], end: true)]
        ),
    ]

    @Test("of a response that HTTP/1 frames", arguments: pieces.indices)
    func http1(_ index: Int) {
        let script = HTTP2Script()
        script.get(1)
        script.waypoint.settle()
        _ = script.waypoint.upstreams[0].take()
        script.waypoint.upstreams[0].deliver(Self.pieces[index].0)
        script.peer.listen()
        #expect(Array(script.peer.said.dropFirst()) == Self.pieces[index].1)
    }

    @Test("of a chunked response whose end comes later, of one that ends with its connection")
    func later() {
        let script = HTTP2Script()
        for stream: UInt32 in [1, 3] { script.get(stream) }
        script.waypoint.settle()
        for upstream in script.waypoint.upstreams { _ = upstream.take() }
        script.waypoint.upstreams[0].deliver("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok")
        script.waypoint.upstreams[0].deliver("\r\n0\r\n\r\n")
        script.waypoint.upstreams[1].deliver("HTTP/1.1 200 OK\r\n\r\nok")
        script.waypoint.upstreams[1].finishByPeer()
        script.peer.listen()
        for stream: UInt32 in [1, 3] {
            #expect(script.peer.body(stream) == "ok" && script.peer.hasEnded(stream))
            #expect(script.peer.said.contains(.data(stream, [], end: true)))
        }
    }

    @Test("of our own answer")
    func local() {
        let waypoint = MemoryWaypoint(plan: { _, _, _ in .answer(LocalAnswer(403, "no")) })
        let peer = waypoint.client()
        peer.headers(1, sampleGet)
        #expect(peer.said.last == .data(1, Array("no".utf8), end: true))
    }

    @Test("of a request and of a response between two of HTTP/2, with a window that cuts them")
    func both() {
        let waypoint = MemoryWaypoint(backendSpeaks: .http2)
        let client = waypoint.client([HTTP2Setting(.initialWindowSize, 4)])
        // Kept while the connection is made.
        client.headers(1, samplePost, end: false)
        client.data(1, "abc", end: true)
        let endpoint = waypoint.endpoint(0, [HTTP2Setting(.initialWindowSize, 2)])
        #expect(endpoint.said.last == .data(1, Array("abc".utf8), end: true))
        endpoint.headers(1, [(":status", "200")], end: false)
        endpoint.data(1, "hello", end: true)
        client.listen()
        #expect(client.said.last == .data(1, Array("hell".utf8), end: false))
        client.window(1, 10)
        #expect(client.said.last == .data(1, Array("o".utf8), end: true))
        // At once, through a window that is too small.
        client.headers(3, samplePost, end: false)
        client.data(3, "abc", end: true)
        endpoint.listen()
        #expect(endpoint.said.last == .data(3, Array("ab".utf8), end: false))
        endpoint.window(3, 10)
        #expect(endpoint.said.last == .data(3, Array("c".utf8), end: true))
    }

    @Test("of a request of HTTP/1 with a length")
    func upload() {
        let waypoint = MemoryWaypoint(backendSpeaks: .http2)
        let client = waypoint.accept()
        client.deliver("POST / HTTP/1.1\r\nhost: cart\r\ncontent-length: 4\r\n\r\nab")
        let endpoint = waypoint.endpoint()
        client.deliver("cd")
        endpoint.listen()
        #expect(
            Array(endpoint.said.suffix(2)) == [
                .data(1, Array("ab".utf8), end: false), .data(1, Array("cd".utf8), end: true),
            ])
    }
}
