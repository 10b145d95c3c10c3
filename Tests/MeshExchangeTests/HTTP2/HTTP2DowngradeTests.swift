import MeshHTTP
import Testing

/// Requests of HTTP/2 that would mean something else, or two things, to an HTTP/1 endpoint: none of them gets there.
@Suite("HTTP/2 downgrade")
struct HTTP2DowngradeTests {
    static func with(_ name: String, _ value: String) -> [(String, String)] {
        sampleGet.map { $0.0 == name ? (name, value) : $0 }
    }

    static let tricks: [(String, [(String, String)])] = [
        ("CR LF in a value", adding([("x-a", "b\r\nx-evil: 1")])),
        ("LF in a value", adding([("x-a", "b\nx-evil: 1")])),
        ("CR in a value", adding([("x-a", "b\rc")])),
        ("NUL in a value", adding([("x-a", "b\0c")])),
        ("a vertical tab in a value", adding([("x-a", "b\u{b}x-evil: 1")])),
        ("a form feed in a value", adding([("x-a", "b\u{c}x-evil: 1")])),
        ("a separator in a value", adding([("x-a", "b\u{1c}x-evil: 1")])),
        ("DEL in a value", adding([("x-a", "b\u{7f}")])),
        ("a tab behind a value", adding([("x-a", "b\t")])),
        ("NUL in a name", adding([("x-a\0", "1")])),
        ("upper case in a name", adding([("X-a", "1")])),
        ("a name beyond ASCII", adding([("x-\u{e9}", "1")])),
        ("a request in a value", adding([("x-a", "b\r\n\r\nGET /evil HTTP/1.1\r\nhost: x")])),
        ("a space before a value", adding([("x-a", " b")])),
        ("a space behind a value", adding([("x-a", "b ")])),
        ("CR LF in a name", adding([("x-a: b\r\nx-evil", "1")])),
        ("a colon in a name", adding([("x-a:", "1")])),
        ("a space in a name", adding([("transfer-encoding ", "chunked")])),
        ("an empty name", adding([("", "1")])),
        ("transfer-encoding", adding([("transfer-encoding", "chunked")])),
        ("connection", adding([("connection", "close")])),
        ("connection that names a field", adding([("connection", "authorization")])),
        ("keep-alive", adding([("keep-alive", "1")])),
        ("proxy-connection", adding([("proxy-connection", "close")])),
        ("upgrade", adding([("upgrade", "h2c")])),
        (
            "http2-settings with its connection",
            adding([("connection", "http2-settings"), ("http2-settings", "AAMAAABk")])
        ),
        ("transfer-encoding of identity", adding([("transfer-encoding", "identity")])),
        ("TE of more than trailers", adding([("te", "trailers, chunked")])),
        ("TE of gzip", adding([("te", "gzip")])),
        ("two hosts", adding([("host", "cart"), ("host", "other")])),
        ("another host than :authority", adding([("host", "other")])),
        ("a user in :authority", Self.with(":authority", "user@cart")),
        ("a path in :authority", Self.with(":authority", "cart/x")),
        ("a space in :authority", Self.with(":authority", "cart x")),
        ("CR LF in :authority", Self.with(":authority", "cart\r\nx: y")),
        ("a backslash in :authority", Self.with(":authority", "cart\\x")),
        ("two authorities", adding([(":authority", "other")])),
        ("two paths", adding([(":path", "/other")])),
        ("NUL in :path", Self.with(":path", "/x\0y")),
        ("CR LF in :scheme", Self.with(":scheme", "http\r\nx: y")),
        ("a space in :path", Self.with(":path", "/ HTTP/1.1\r\nx: y")),
        ("a version in :path", Self.with(":path", "/x HTTP/1.1")),
        ("a tab in :path", Self.with(":path", "/x\ty")),
        ("a fragment in :path", Self.with(":path", "/x#y")),
        ("a URI in :path", Self.with(":path", "http://other/")),
        ("an asterisk for GET", Self.with(":path", "*")),
        ("a space in :method", Self.with(":method", "GET /evil")),
        ("CR LF in :method", Self.with(":method", "GET\r\n")),
        ("an empty :method", Self.with(":method", "")),
        ("a scheme with a space", Self.with(":scheme", "http x")),
        ("a length of no digits", adding([("content-length", "")])),
        ("a negative length", adding([("content-length", "-5")])),
        ("a hexadecimal length", adding([("content-length", "0x5")])),
        ("a length with a sign", adding([("content-length", "+5")])),
        ("a length that is a list", adding([("content-length", "5, 5")])),
        ("two lengths", adding([("content-length", "5"), ("content-length", "6")])),
        ("a length beyond all bounds", adding([("content-length", "99999999999999999999")])),
        ("a length without a body", adding([("content-length", "5")])),
        (":protocol without CONNECT", adding([(":protocol", "websocket")])),
    ]

    @Test("never forwarded", arguments: tricks.indices) func trick(_ index: Int) {
        let (name, fields) = Self.tricks[index]
        let script = HTTP2Script()
        script.peer.headers(1, fields)
        script.waypoint.settle()
        script.peer.listen()
        #expect(script.peer.resetCode(1) == .protocolError, "\(name): \(script.peer.said)")
        #expect(script.waypoint.upstreams.isEmpty, "\(name)")
    }

    @Test("octets that are no UTF-8 are no path") func badText() {
        let script = HTTP2Script()
        let path: [UInt8] = [0x00] + literal(":path") + [3, 0x2F, 0xC3, 0x28]
        script.send(
            .headers, [.endHeaders, .endStream], 1, join(block(sampleGet.filter { $0.0 != ":path" }), path))
        #expect(script.peer.resetCode(1) == .protocolError)
    }

    @Test("a body longer or shorter than its length never completes a request", arguments: ["abcd", "ab"])
    func wrongLength(_ body: String) {
        let script = HTTP2Script()
        script.post(1, [("content-length", "3")])
        script.waypoint.settle()
        script.peer.data(1, body, end: true)
        script.waypoint.settle()
        #expect(script.peer.resetCode(1) == .protocolError)
        let forwarded = String(decoding: script.waypoint.upstreams[0].take(), as: UTF8.self)
        #expect(!forwarded.hasSuffix("abc") && !forwarded.contains("abcd"))
        #expect(script.waypoint.upstreams[0].wasReset)
    }

    @Test("trailers of the wrong kind end the request", arguments: ["transfer-encoding", "connection", "X", "a b"])
    func trailers(_ name: String) {
        let script = HTTP2Script()
        script.post(1)
        script.waypoint.settle()
        script.peer.data(1, "abc")
        script.peer.headers(1, [(name, "x")])
        #expect(script.peer.resetCode(1) == .protocolError)
        #expect(script.waypoint.upstreams[0].wasReset)
    }

    @Test("a response's fields are checked as well", arguments: [0, 1, 2, 3])
    func badResponses(_ index: Int) {
        let bad: [[(String, String)]] = [
            [(":status", "200"), ("x", "a\r\nb: c")], [(":status", "200"), ("connection", "close")],
            [(":status", "0200")], [(":status", "200"), ("content-length", "5"), ("content-length", "6")],
        ]
        let waypoint = MemoryWaypoint(backendSpeaks: .http2)
        let peer = waypoint.accept()
        peer.deliver("GET / HTTP/1.1\r\nhost: cart\r\n\r\n")
        let endpoint = waypoint.endpoint()
        endpoint.headers(1, bad[index], end: false)
        let text = String(decoding: peer.take(), as: UTF8.self)
        #expect(text.hasPrefix("HTTP/1.1 502 "))
        #expect(endpoint.resetCode(1) == .protocolError)
        #expect(waypoint.exchanges.reports.all.first?.flags.contains(.upstreamProtocolError) == true)
    }
}
