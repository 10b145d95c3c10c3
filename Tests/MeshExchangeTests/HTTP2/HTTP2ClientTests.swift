import MeshExchange
import MeshHTTP
import MeshModel
import MeshRoutes
import Testing

/// Endpoints that speak HTTP/2: what they may say and when, and what the client hears of it.
@Suite("HTTP/2 endpoints")
struct HTTP2ClientTests {
    /// A client of HTTP/2, a waypoint, and endpoints that the test plays.
    final class Scene {
        let waypoint: MemoryWaypoint
        let client: FramePeer

        init(
            endpoints: Int = 1, configure: (inout ExchangeConfiguration) -> Void = { _ in },
            plan: (@Sendable (RequestHead, RequestOrigin, Backend) -> ExchangePlan)? = nil
        ) {
            self.waypoint = MemoryWaypoint(
                backendSpeaks: .http2, endpoints: endpoints, configure: configure, plan: plan)
            self.client = self.waypoint.client([HTTP2Setting(.initialWindowSize, 1 << 20)])
        }

        func get(_ stream: UInt32, _ more: [(String, String)] = []) {
            self.client.headers(stream, sampleGet + more)
        }

        func settle() {
            self.waypoint.settle()
            self.client.listen()
        }

        var report: ExchangeReport? { self.waypoint.exchanges.reports.all.last }
    }

    static let ok = [(":status", "200")]

    @Test("a request, its body and its trailers; a response, its body and its trailers")
    func message() {
        let scene = Scene()
        scene.client.headers(1, samplePost + [("te", "trailers"), ("x-a", "1")], end: false)
        let endpoint = scene.waypoint.endpoint()
        scene.client.data(1, "abc")
        scene.client.headers(1, [("x-sum", "9")])
        endpoint.listen()
        let head = endpoint.head(1)
        #expect(head?[":method"] == "POST" && head?[":authority"] == "cart" && head?["te"] == "trailers")
        #expect(head?["x-a"] == "1")
        #expect(endpoint.body(1) == "abc")
        #expect(endpoint.said.last == .head(1, ["x-sum": "9"], end: true))
        endpoint.headers(1, Self.ok + [("x-b", "2")], end: false)
        endpoint.data(1, "xyz")
        endpoint.headers(1, [("grpc-status", "0")])
        scene.client.listen()
        #expect(scene.client.head(1)?["x-b"] == "2")
        #expect(scene.client.body(1) == "xyz")
        #expect(scene.client.said.last == .head(1, ["grpc-status": "0"], end: true))
    }

    @Test("streams above GOAWAY's are asked elsewhere, those below are answered")
    func goAway() {
        let scene = Scene(endpoints: 1)
        for stream: UInt32 in [1, 3, 5] { scene.get(stream) }
        let endpoint = scene.waypoint.endpoint()
        endpoint.send(.goAway, [], 0, word(3) + word(0))
        endpoint.headers(1, Self.ok)
        endpoint.headers(3, Self.ok)
        scene.settle()
        #expect(scene.client.hasEnded(1) && scene.client.hasEnded(3) && !scene.client.hasEnded(5))
        #expect(endpoint.channel.isOver)
        scene.waypoint.settle(after: .seconds(1))
        let second = scene.waypoint.endpoint(1)
        second.headers(1, Self.ok)
        scene.settle()
        #expect(scene.client.head(5)?[":status"] == "200")
    }

    @Test("no new request goes where GOAWAY came from")
    func afterGoAway() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint()
        endpoint.send(.goAway, [], 0, word(HTTP2StreamID.largest) + word(0))
        scene.get(3)
        scene.waypoint.settle()
        #expect(scene.waypoint.upstreams.count == 2)
        endpoint.headers(1, Self.ok)
        scene.settle()
        #expect(scene.client.hasEnded(1))
    }

    @Test("REFUSED_STREAM is asked again, another reset is not")
    func refused() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint()
        endpoint.reset(1, .refusedStream)
        scene.waypoint.settle(after: .seconds(1))
        endpoint.listen()
        #expect(endpoint.head(3) != nil)
        endpoint.reset(3, .internalError)
        scene.settle()
        #expect(scene.client.head(1)?[":status"] == "503")
        #expect(scene.report?.attempts == 2 && scene.report?.flags.contains(.upstreamReset) == true)
    }

    // MARK: Settings

    @Test("MAX_CONCURRENT_STREAMS: others wait or go over another connection, and come when it grows")
    func concurrency() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint(0, [HTTP2Setting(.maxConcurrentStreams, 1)])
        scene.get(3)
        endpoint.settings([HTTP2Setting(.maxConcurrentStreams, 2)])
        #expect(endpoint.head(3) != nil)
        endpoint.headers(1, Self.ok)
        endpoint.headers(3, Self.ok)
        scene.settle()
        #expect(scene.client.hasEnded(1) && scene.client.hasEnded(3))
    }

    @Test("an endpoint that wants no streams gets none until it does")
    func noStreams() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint(0, [HTTP2Setting(.maxConcurrentStreams, 0)])
        endpoint.headers(1, Self.ok)
        for stream: UInt32 in [3, 5, 7] { scene.get(stream) }
        scene.settle()
        #expect(endpoint.head(3) == nil)
        #expect(scene.waypoint.upstreams.count == 1)
        endpoint.settings([HTTP2Setting(.maxConcurrentStreams, 100)])
        for stream: UInt32 in [3, 5, 7] {
            #expect(endpoint.head(stream) != nil)
            endpoint.headers(stream, Self.ok)
        }
        scene.settle()
        #expect(scene.client.hasEnded(3) && scene.client.hasEnded(5) && scene.client.hasEnded(7))
    }

    @Test("tiny windows, which shrink under way")
    func windows() {
        let scene = Scene()
        scene.client.headers(1, samplePost, end: false)
        let endpoint = scene.waypoint.endpoint(0, [HTTP2Setting(.initialWindowSize, 3)])
        // The head had gone with the old window.
        scene.client.data(1, "abcdefgh", end: true)
        endpoint.listen()
        #expect(endpoint.body(1) == "abc")
        endpoint.settings([HTTP2Setting(.initialWindowSize, 1)])
        endpoint.window(1, 2)
        #expect(endpoint.body(1) == "abc")
        endpoint.window(1, 1)
        #expect(endpoint.body(1) == "abcd")
        endpoint.settings([HTTP2Setting(.initialWindowSize, 100)])
        #expect(endpoint.body(1) == "abcdefgh" && endpoint.hasEnded(1))
    }

    @Test("the endpoint's table for header compression may shrink and grow")
    func table() {
        let scene = Scene()
        scene.get(1, [("x-a", "1")])
        let endpoint = scene.waypoint.endpoint()
        endpoint.settings([HTTP2Setting(.headerTableSize, 0), HTTP2Setting(.headerTableSize, 4_096)])
        for stream: UInt32 in [3, 5] {
            scene.get(stream, [("x-a", "1")])
            endpoint.listen()
            #expect(endpoint.head(stream)?[":authority"] == "cart" && endpoint.head(stream)?["x-a"] == "1")
        }
    }

    @Test("a frame as large as the endpoint takes, a header block over several frames")
    func frameSize() {
        let scene = Scene()
        let long = String(repeating: "~", count: 9_000)
        let whole = block(samplePost + [("x-a", long), ("x-b", long)])
        scene.client.send(.headers, [], 1, Array(whole[..<10_000]))
        scene.client.send(.continuation, .endHeaders, 1, Array(whole[10_000...]))
        let endpoint = scene.waypoint.endpoint(0, [HTTP2Setting(.maxFrameSize, 16_384)])
        #expect(endpoint.head(1)?["x-a"] == long && endpoint.head(1)?["x-b"] == long)
    }

    @Test("MAX_HEADER_LIST_SIZE: what the endpoint would not take is answered with 431, and not sent")
    func headerList() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint(0, [HTTP2Setting(.maxHeaderListSize, 1_000)])
        endpoint.headers(1, Self.ok)
        scene.get(3, [("x-a", String(repeating: "~", count: 1_000))])
        scene.settle()
        #expect(scene.client.head(3)?[":status"] == "431")
        #expect(scene.report?.attempts == 1 && scene.report?.flags.isEmpty == true)
        // The connection goes on, and the endpoint has heard of nothing.
        scene.get(5)
        endpoint.listen()
        #expect(endpoint.head(3) == nil && endpoint.resetCode(3) == nil && endpoint.head(5) != nil)
        #expect(scene.waypoint.upstreams.count == 1)
    }

    // MARK: Responses

    @Test("informational heads go through, and not for ever")
    func informational() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint()
        endpoint.headers(1, [(":status", "103"), ("link", "</x>")], end: false)
        scene.client.listen()
        #expect(scene.client.head(1)?[":status"] == "103")
        for _ in 0..<20 { endpoint.headers(1, [(":status", "103")], end: false) }
        scene.settle()
        #expect(scene.client.head(1)?[":status"] == "502")
        #expect(endpoint.resetCode(1) == .protocolError)
    }

    @Test(
        "a complete response before the request's end, with and without RST_STREAM behind it", arguments: [true, false])
    func early(_ isReset: Bool) {
        let scene = Scene()
        scene.client.headers(1, samplePost, end: false)
        let endpoint = scene.waypoint.endpoint()
        endpoint.headers(1, [(":status", "413")], end: false)
        endpoint.data(1, "too long", end: true)
        if isReset { endpoint.reset(1, .noError) }
        scene.client.data(1, "more")
        scene.settle()
        #expect(scene.client.head(1)?[":status"] == "413")
        #expect(scene.client.body(1) == "too long" && scene.client.hasEnded(1))
        #expect(scene.client.resetCode(1) == .noError)
        // The endpoint's connection goes on.
        scene.get(3)
        endpoint.listen()
        #expect(endpoint.head(3) != nil && endpoint.goAways.isEmpty)
    }

    @Test("a response that breaks off is not one that ends")
    func broken() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint()
        endpoint.headers(1, Self.ok, end: false)
        endpoint.data(1, "half")
        endpoint.reset(1, .internalError)
        scene.settle()
        #expect(scene.client.body(1) == "half" && !scene.client.hasEnded(1))
        #expect(scene.client.resetCode(1) == .internalError)
    }

    enum Wrong: CaseIterable {
        case dataFirst, secondHead, noStatus, status101, endedInformational, shortBody, longBody, badTrailers
    }

    @Test("malformed responses are 502 and UPE, or break off what has begun", arguments: Wrong.allCases)
    func malformed(_ wrong: Wrong) {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint()
        var hasBegun = false
        switch wrong {
        case .dataFirst: endpoint.data(1, "x")
        case .noStatus: endpoint.headers(1, [("x", "y")])
        case .status101: endpoint.headers(1, [(":status", "101")], end: false)
        case .endedInformational: endpoint.headers(1, [(":status", "103")])
        case .secondHead, .shortBody, .longBody, .badTrailers:
            hasBegun = true
            endpoint.headers(1, Self.ok + [("content-length", "3")], end: false)
            switch wrong {
            case .secondHead: endpoint.headers(1, Self.ok, end: false)
            case .shortBody: endpoint.data(1, "ab", end: true)
            case .longBody: endpoint.data(1, "abcd", end: true)
            default:
                endpoint.data(1, "abc")
                endpoint.headers(1, [(":status", "200")])
            }
        }
        scene.settle()
        #expect(endpoint.resetCode(1) == .protocolError)
        #expect(scene.report?.flags.contains(.upstreamProtocolError) == true)
        if hasBegun {
            #expect(!scene.client.hasEnded(1) && scene.client.resetCode(1) == .internalError)
        } else {
            #expect(scene.client.head(1)?[":status"] == "502")
        }
        // Other requests of the connection are not touched.
        scene.get(3)
        endpoint.listen()
        #expect(endpoint.head(3) != nil && endpoint.goAways.isEmpty)
    }

    @Test("a push is refused, with the connection")
    func push() {
        let scene = Scene()
        scene.get(1)
        let endpoint = scene.waypoint.endpoint()
        endpoint.send(.pushPromise, .endHeaders, 1, word(2) + getBlock)
        scene.settle()
        #expect(endpoint.goAways == [.protocolError])
        #expect(scene.client.head(1)?[":status"] == "503")
    }

    @Test("a response to HEAD, 204 and 304 has no body, whatever comes", arguments: ["HEAD", "204", "304"])
    func noBody(_ kind: String) {
        let waypoint = MemoryWaypoint(backendSpeaks: .http2)
        let peer = waypoint.accept()
        peer.deliver("\(kind == "HEAD" ? "HEAD" : "GET") / HTTP/1.1\r\nhost: cart\r\n\r\n")
        let endpoint = waypoint.endpoint()
        endpoint.headers(
            1, [(":status", kind == "HEAD" ? "200" : kind), ("content-length", "5")], end: false)
        endpoint.data(1, "", end: true)
        let text = String(decoding: peer.take(), as: UTF8.self)
        #expect(text.hasSuffix("\r\n\r\n") && !text.contains("chunked"))
        peer.deliver("GET /next HTTP/1.1\r\nhost: cart\r\n\r\n")
        endpoint.listen()
        #expect(endpoint.head(3)?[":path"] == "/next")
    }

    @Test("slow clients do not stop the others of an endpoint's connection")
    func slowClients() {
        let scene = Scene()
        let slow = scene.waypoint.client([HTTP2Setting(.initialWindowSize, 0)])
        for stream in 0..<20 { slow.headers(UInt32(2 * stream + 1), sampleGet) }
        let endpoint = scene.waypoint.endpoint()
        for stream in 0..<20 {
            endpoint.headers(UInt32(2 * stream + 1), Self.ok, end: false)
            for _ in 0..<16 { endpoint.data(UInt32(2 * stream + 1), String(repeating: "x", count: 16_384)) }
        }
        scene.get(1)
        endpoint.listen()
        endpoint.headers(41, Self.ok, end: false)
        endpoint.data(41, "quick", end: true)
        scene.client.listen()
        #expect(scene.client.body(1) == "quick")
        #expect(endpoint.goAways.isEmpty)
    }
}
