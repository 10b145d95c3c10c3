import MeshHTTP
import Testing

@Suite("Message heads")
struct HTTP2HeadTests {
    @Test("CONNECT is a method and a place with a port", arguments: ["10.42.1.2:80", "[fd00::1]:15008", "a.b.svc:1"])
    func connect(authority: String) throws {
        let request = try HTTP2ConnectRequest(
            validating: [":method": "CONNECT", ":authority": authority, "baggage": "k8s.namespace.name=a"])
        #expect(request.authority == authority)
        #expect(request.fields["baggage"] == "k8s.namespace.name=a")
    }

    @Test("another method is told apart from a malformed request")
    func notConnect() {
        #expect(throws: HTTP2MalformedMessage.notConnect(method: "GET")) {
            try HTTP2ConnectRequest(validating: [":method": "GET", ":scheme": "http", ":path": "/", ":authority": "a"])
        }
    }

    static let badRequests: [(HTTP2HeaderList, HTTP2MalformedMessage)] = [
        ([":method": "CONNECT"], .missingPseudoHeader(":authority")),
        ([":authority": "a:1"], .missingPseudoHeader(":method")),
        ([":method": "CONNECT", ":authority": "a:1", ":scheme": "http"], .unexpectedPseudoHeader(":scheme")),
        ([":method": "CONNECT", ":authority": "a:1", ":path": "/"], .unexpectedPseudoHeader(":path")),
        ([":method": "CONNECT", ":authority": "a:1", ":protocol": "udp"], .unexpectedPseudoHeader(":protocol")),
        ([":method": "CONNECT", ":authority": "a:1", ":status": "200"], .unexpectedPseudoHeader(":status")),
        ([":method": "CONNECT", ":authority": "a:1", ":authority": "b:1"], .repeatedPseudoHeader(":authority")),
        ([":method": "CONNECT", ":authority": "a:1", ":x": ""], .unknownPseudoHeader(":x")),
        ([":method": "CONNECT", "a": "b", ":authority": "a:1"], .pseudoHeaderAfterField(":authority")),
        ([":method": "CONNECT", ":authority": "a"], .badAuthority("a")),
        ([":method": "CONNECT", ":authority": "a:0"], .badAuthority("a:0")),
        ([":method": "CONNECT", ":authority": "a:65536"], .badAuthority("a:65536")),
        ([":method": "CONNECT", ":authority": ":80"], .badAuthority(":80")),
        ([":method": "CONNECT", ":authority": "fd00::1:80"], .badAuthority("fd00::1:80")),
        ([":method": "CONNECT", ":authority": "u@a:1"], .badAuthority("u@a:1")),
        ([":method": "CONNECT", ":authority": "a b:1"], .badAuthority("a b:1")),
        ([":method": "CONNECT", ":authority": "a:1", "host": "b:1"], .hostDiffers),
        ([":method": "CON NECT", ":authority": "a:1"], .badMethod("CON NECT")),
        ([":method": "CONNECT", ":authority": "a:1", "Upper": "x"], .badName("Upper")),
        ([":method": "CONNECT", ":authority": "a:1", "": "x"], .badName("")),
        ([":method": "CONNECT", ":authority": "a:1", "a b": "x"], .badName("a b")),
        ([":method": "CONNECT", ":authority": "a:1", "a": "x\r\ny: z"], .badValue(name: "a")),
        ([":method": "CONNECT", ":authority": "a:1", "a": "x\0"], .badValue(name: "a")),
        ([":method": "CONNECT", ":authority": "a:1", "a": " x"], .badValue(name: "a")),
        ([":method": "CONNECT", ":authority": "a:1", "connection": "close"], .connectionHeader("connection")),
        (
            [":method": "CONNECT", ":authority": "a:1", "transfer-encoding": "chunked"],
            .connectionHeader("transfer-encoding")
        ),
        ([":method": "CONNECT", ":authority": "a:1", "te": "gzip"], .connectionHeader("te")),
        ([":method": "GET", ":scheme": "http", ":authority": "a"], .missingPseudoHeader(":path")),
        ([":method": "GET", ":path": "/", ":authority": "a"], .missingPseudoHeader(":scheme")),
        ([":method": "GET", ":scheme": "http", ":path": "", ":authority": "a"], .badPath("")),
        ([":method": "GET", ":scheme": "http", ":path": "*", ":authority": "a"], .badPath("*")),
        ([":method": "GET", ":scheme": "http", ":path": "/ x", ":authority": "a"], .badPath("/ x")),
        ([":method": "GET", ":scheme": "http", ":path": "/x#y", ":authority": "a"], .badPath("/x#y")),
        ([":method": "GET", ":scheme": "1http", ":path": "/", ":authority": "a"], .badScheme("1http")),
    ]

    @Test("malformed requests", arguments: badRequests)
    func malformed(list: HTTP2HeaderList, error: HTTP2MalformedMessage) {
        #expect(throws: error) { try HTTP2RequestHead(validating: list) }
        #expect(HTTP2StreamError(HTTP2StreamID(1), .malformed(error)).code == .protocolError)
    }

    @Test("ordinary requests, with a host that agrees")
    func request() throws {
        let head = try HTTP2RequestHead(validating: [
            ":method": "GET", ":scheme": "https", ":path": "/a?b", ":authority": "A.b", "host": "a.B", "te": "trailers",
            "content-length": "5",
        ])
        #expect(head.path == "/a?b")
        #expect(!head.isPlainConnect)
        #expect(try HTTP2FieldRules.contentLength(head.fields) == 5)
        let options = try HTTP2RequestHead(validating: [":method": "OPTIONS", ":scheme": "http", ":path": "*"])
        #expect(options.authority == nil)
    }

    @Test("extended CONNECT only when it was announced")
    func extendedConnect() throws {
        let list: HTTP2HeaderList = [
            ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/", ":authority": "a",
        ]
        #expect(throws: HTTP2MalformedMessage.unexpectedPseudoHeader(":protocol")) {
            try HTTP2RequestHead(validating: list)
        }
        #expect(try HTTP2RequestHead(validating: list, extendedConnect: true).protocol == "websocket")
    }

    @Test("content-length is one number", arguments: ["", "-1", "+1", "1,1", "99999999999999999999"])
    func contentLength(text: String) {
        #expect(throws: HTTP2MalformedMessage.badContentLength(text)) {
            try HTTP2FieldRules.contentLength(["content-length": text])
        }
    }

    @Test("a response has one status of three digits", arguments: [100, 200, 204, 404, 503])
    func response(status: Int) throws {
        var encoder = HPACKEncoder()
        var decoder = HPACKDecoder()
        var block: [UInt8] = []
        encoder.begin(&block)
        HTTP2ResponseHead.appendStatus(status, &encoder, to: &block)
        let head = try HTTP2ResponseHead(validating: decoder.decode(block))
        #expect(head.status == status)
        #expect(head.isSuccess == (200...299).contains(status))
        #expect(head.isInformational == (status < 200))
    }

    @Test("bad statuses", arguments: ["", "20", "2000", "2x0", "099", "101", "600"])
    func badStatus(text: String) {
        #expect(throws: HTTP2MalformedMessage.badStatus(text)) {
            try HTTP2ResponseHead(validating: [":status": text])
        }
    }

    @Test("trailers have no pseudo-headers")
    func trailers() throws {
        try HTTP2FieldRules.checkTrailers(["grpc-status": "0"])
        #expect(throws: HTTP2MalformedMessage.unexpectedPseudoHeader(":status")) {
            try HTTP2FieldRules.checkTrailers([":status": "200"])
        }
    }
}
