import MeshExchange
import MeshHTTP
import MeshModel
import MeshRoutes
import Testing

/// Extended CONNECT (RFC 8441) on either side of a waypoint, and how what it carries ends.
@Suite("Switches of protocols and HTTP/2")
struct HTTP2UpgradeTests {
    static let ok = [(":status", "200")]

    static let websocket = [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"),
        (":authority", "cart"), ("sec-websocket-version", "13"),
    ]

    @Test("an extended CONNECT goes to an HTTP/1 endpoint as an upgrade, with a key")
    func upgradeDown() {
        let waypoint = MemoryWaypoint()
        let client = waypoint.client()
        client.headers(1, Self.websocket, end: false)
        waypoint.settle()
        let request = String(decoding: waypoint.upstreams[0].take(), as: UTF8.self)
        #expect(request.hasPrefix("GET /chat HTTP/1.1\r\n"))
        #expect(request.contains("upgrade: websocket\r\n") && request.contains("connection: upgrade\r\n"))
        #expect(request.contains("sec-websocket-key: ") && request.contains("sec-websocket-version: 13\r\n"))
        waypoint.upstreams[0].deliver(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                + "sec-websocket-accept: x\r\n\r\nhello")
        client.listen()
        #expect(client.head(1)?[":status"] == "200" && client.head(1)?["sec-websocket-accept"] == nil)
        #expect(client.body(1) == "hello")
        client.data(1, "there")
        #expect(String(decoding: waypoint.upstreams[0].take(), as: UTF8.self) == "there")
    }

    @Test("an upgrade goes to an HTTP/2 endpoint as an extended CONNECT, when it has said that it knows that")
    func upgradeUp() {
        let waypoint = MemoryWaypoint(backendSpeaks: .http2)
        let peer = waypoint.accept()
        peer.deliver(
            "GET /chat HTTP/1.1\r\nhost: cart\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                + "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        waypoint.settle()
        let endpoint = waypoint.endpoint(0, [HTTP2Setting(.enableConnectProtocol, 1)])
        #expect(endpoint.head(1)?[":method"] == "CONNECT" && endpoint.head(1)?[":protocol"] == "websocket")
        #expect(endpoint.head(1)?["sec-websocket-key"] == nil)
        endpoint.headers(1, Self.ok, end: false)
        endpoint.data(1, "hello")
        let text = String(decoding: peer.take(), as: UTF8.self)
        #expect(text.hasPrefix("HTTP/1.1 101 "))
        #expect(text.contains("upgrade: websocket\r\n"))
        // The example of RFC 6455, 1.3.
        #expect(text.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
        #expect(text.hasSuffix("\r\n\r\nhello"))
        peer.deliver("there")
        endpoint.listen()
        #expect(endpoint.body(1) == "there")
    }

    @Test("an endpoint without extended CONNECT is not asked")
    func noUpgrade() {
        let waypoint = MemoryWaypoint(backendSpeaks: .http2)
        let client = waypoint.client()
        client.headers(1, Self.websocket, end: false)
        waypoint.settle()
        let endpoint = waypoint.endpoint()
        client.listen()
        #expect(endpoint.head(1) == nil)
        #expect(client.head(1)?[":status"] == "502")
    }

    @Test(
        "protocols that carry requests of their own are not carried",
        arguments: ["h2c", "H2C", "HTTP/2.0", "TLS/1.0", "h2", "websocket, h2c", "websocket h2c", ""])
    func smuggled(_ name: String) {
        let waypoint = MemoryWaypoint()
        let client = waypoint.client()
        client.headers(1, Self.websocket.map { $0.0 == ":protocol" ? ($0.0, name) : $0 }, end: false)
        waypoint.settle()
        client.listen()
        #expect(client.head(1)?[":status"] == "501" && client.resetCode(1) == .noError)
        #expect(waypoint.upstreams.isEmpty)
        #expect(waypoint.exchanges.reports.all.first?.flags == .clientProtocolError)
    }

    // MARK: Ends, HTTP/2 to HTTP/1

    /// An HTTP/2 client and an HTTP/1 endpoint that have switched; the endpoint has said "hello".
    private func down() -> (MemoryWaypoint, FramePeer, MemoryChannel) {
        let waypoint = MemoryWaypoint()
        let client = waypoint.client()
        client.headers(1, Self.websocket, end: false)
        waypoint.settle()
        let endpoint = waypoint.upstreams[0]
        _ = endpoint.take()
        endpoint.deliver("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello")
        client.listen()
        return (waypoint, client, endpoint)
    }

    private func settled(_ waypoint: MemoryWaypoint, _ flags: ExchangeFlags = []) {
        waypoint.settle()
        #expect(waypoint.exchanges.reports.all.map(\.flags) == [flags])
        #expect(waypoint.server.occupancy.exchanges == 0 && waypoint.server.occupancy.active == 0)
        #expect(waypoint.server.occupancy.upstreams == waypoint.server.occupancy.idleUpstreams)
    }

    @Test("END_STREAM of the client is FIN for the endpoint, which still sends")
    func clientEndsDown() {
        let (waypoint, client, endpoint) = self.down()
        client.data(1, "bye", end: true)
        #expect(String(decoding: endpoint.take(), as: UTF8.self) == "bye")
        #expect(endpoint.hasFinished && !endpoint.wasReset)
        endpoint.deliver(", you")
        client.listen()
        #expect(client.body(1) == "hello, you" && !client.hasEnded(1))
        endpoint.finishByPeer()
        client.listen()
        #expect(client.hasEnded(1) && client.resetCode(1) == nil && !endpoint.wasReset)
        self.settled(waypoint)
    }

    @Test("FIN of the endpoint is END_STREAM for the client, which still sends")
    func endpointEndsDown() {
        let (waypoint, client, endpoint) = self.down()
        endpoint.finishByPeer()
        client.listen()
        #expect(client.hasEnded(1) && client.resetCode(1) == nil && !endpoint.hasFinished)
        client.data(1, "still")
        #expect(String(decoding: endpoint.take(), as: UTF8.self) == "still")
        client.data(1, " here", end: true)
        #expect(String(decoding: endpoint.take(), as: UTF8.self) == " here")
        #expect(endpoint.hasFinished && !endpoint.wasReset && client.resetCode(1) == nil)
        self.settled(waypoint)
    }

    @Test("a reset of the endpoint is RST_STREAM(CANCEL)", arguments: [false, true])
    func endpointResetsDown(isHalfClosed: Bool) {
        let (waypoint, client, endpoint) = self.down()
        if isHalfClosed { client.data(1, "", end: true) }
        endpoint.closeByPeer(reset: true)
        client.listen()
        #expect(client.resetCode(1) == .cancel && !client.hasEnded(1))
        self.settled(waypoint, .upstreamReset)
    }

    @Test("RST_STREAM of the client is a reset for the endpoint", arguments: [false, true])
    func clientResetsDown(isHalfClosed: Bool) {
        let (waypoint, client, endpoint) = self.down()
        if isHalfClosed { endpoint.finishByPeer() }
        client.reset(1)
        #expect(endpoint.wasReset)
        self.settled(waypoint, .clientEnd)
    }

    // MARK: Ends, HTTP/1 to HTTP/2

    private static let asking =
        "GET /chat HTTP/1.1\r\nhost: cart\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        + "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

    /// An HTTP/1 client and an HTTP/2 endpoint that have switched.
    private func up(_ settings: [HTTP2Setting] = []) -> (MemoryWaypoint, MemoryChannel, FramePeer) {
        let waypoint = MemoryWaypoint(backendSpeaks: .http2)
        let client = waypoint.accept()
        client.deliver(Self.asking)
        let endpoint = waypoint.endpoint(0, settings + [HTTP2Setting(.enableConnectProtocol, 1)])
        endpoint.headers(1, Self.ok, end: false)
        _ = client.take()
        return (waypoint, client, endpoint)
    }

    @Test("FIN of the client is END_STREAM for the endpoint, which still sends")
    func clientEndsUp() {
        let (waypoint, client, endpoint) = self.up()
        client.deliver("bye")
        client.finishByPeer()
        endpoint.listen()
        #expect(endpoint.body(1) == "bye" && endpoint.hasEnded(1))
        endpoint.data(1, "hello")
        #expect(String(decoding: client.take(), as: UTF8.self) == "hello" && !client.hasFinished)
        endpoint.data(1, "", end: true)
        #expect(client.hasFinished && !client.wasReset && endpoint.resetCode(1) == nil)
        self.settled(waypoint)
    }

    @Test("END_STREAM of the endpoint is FIN for the client, which still sends, also more than the window")
    func endpointEndsUp() {
        let (waypoint, client, endpoint) = self.up([HTTP2Setting(.initialWindowSize, 3)])
        endpoint.data(1, "over", end: true)
        #expect(String(decoding: client.take(), as: UTF8.self) == "over" && client.hasFinished)
        client.deliver("abcdefgh")
        client.finishByPeer()
        endpoint.listen()
        #expect(endpoint.body(1) == "abc" && endpoint.resetCode(1) == nil)
        endpoint.window(1, 100)
        #expect(endpoint.body(1) == "abcdefgh" && endpoint.hasEnded(1) && endpoint.resetCode(1) == nil)
        #expect(!client.wasReset)
        self.settled(waypoint)
    }

    @Test("RST_STREAM of the endpoint is a reset for the client", arguments: [false, true])
    func endpointResetsUp(isHalfClosed: Bool) {
        let (waypoint, client, endpoint) = self.up()
        if isHalfClosed { client.finishByPeer() }
        endpoint.reset(1)
        #expect(client.wasReset)
        self.settled(waypoint, .upstreamReset)
    }

    @Test("a reset of the client is RST_STREAM(CANCEL)", arguments: [false, true])
    func clientResetsUp(isHalfClosed: Bool) {
        let (waypoint, client, endpoint) = self.up()
        if isHalfClosed { endpoint.data(1, "", end: true) }
        client.closeByPeer(reset: true)
        endpoint.listen()
        #expect(endpoint.resetCode(1) == .cancel)
        self.settled(waypoint, .clientEnd)
    }

    @Test("FIN before the answer is passed on with the switch")
    func endBeforeSwitch() {
        let waypoint = MemoryWaypoint()
        let client = waypoint.accept()
        client.deliver(Self.asking)
        client.finishByPeer()
        waypoint.settle()
        let endpoint = waypoint.upstreams[0]
        #expect(!endpoint.hasFinished)
        endpoint.deliver("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        #expect(endpoint.hasFinished && !client.hasFinished)
        endpoint.deliver("hello")
        endpoint.finishByPeer()
        #expect(String(decoding: client.take(), as: UTF8.self).hasSuffix("\r\n\r\nhello") && client.hasFinished)
        self.settled(waypoint)
    }
}
