import MeshHTTP
import MeshModel
import MeshRoutes
import Testing

@Suite("Sessions and hashes")
struct BalancingTests {
    private let endpoint = SessionTag.hash(of: "cluster//Pod/shop/web-1")

    @Test("a session's text comes back as it was, and nothing else is one")
    func tag() {
        let tag = SessionTag(endpoint: self.endpoint, began: 1_800_000_000, used: .max)
        #expect(tag.text.utf8.count == SessionTag.characters)
        #expect(SessionTag(tag.text) == tag)
        for text in [
            "", "x", String(repeating: "A", count: 21), String(repeating: "A", count: 23), tag.text + "=",
            String(repeating: "=", count: 22), String(repeating: "_", count: 22), String(repeating: "é", count: 11),
        ] {
            #expect(SessionTag(text) == nil, "\(text)")
        }
    }

    @Test("a cookie brings a client back until its times are over")
    func cookie() {
        let persistence = SessionPersistence(
            name: "lab", absoluteTimeout: .seconds(100), idleTimeout: .seconds(10), isPermanentCookie: true)
        var response = ResponseHead(status: 200)
        persistence.apply(to: &response, session: nil, endpoint: self.endpoint, now: 1000, path: "/", isSecure: true)
        let cookie = response.fields.value(named: "set-cookie")!
        let text = SessionTag(endpoint: self.endpoint, began: 1000, used: 1000).text
        #expect(cookie == "lab=\(text); Path=/; HttpOnly; Max-Age=100; Secure")
        let back = request("/", "GET", ["cookie": "x=y; lab=\(text)"])
        #expect(persistence.session(of: back, now: 1009)?.endpoint == self.endpoint)
        #expect(persistence.session(of: back, now: 1010) == nil)
        let busy = SessionTag(endpoint: self.endpoint, began: 1000, used: 1099).text
        #expect(persistence.session(of: request("/", "GET", ["cookie": "lab=\(busy)"]), now: 1099) != nil)
        #expect(persistence.session(of: request("/", "GET", ["cookie": "lab=\(busy)"]), now: 1100) == nil)
        #expect(persistence.session(of: request("/", "GET", ["cookie": "lab=other"]), now: 1000) == nil)
        // Each response moves the idle time; the age stays.
        var next = ResponseHead(status: 200)
        let session = persistence.session(of: back, now: 1005)
        persistence.apply(to: &next, session: session, endpoint: self.endpoint, now: 1005, path: "/", isSecure: false)
        let moved = SessionTag(endpoint: self.endpoint, began: 1000, used: 1005).text
        #expect(next.fields.value(named: "set-cookie") == "lab=\(moved); Path=/; HttpOnly; Max-Age=95")
    }

    @Test("a header does too, and is said once")
    func header() {
        let persistence = SessionPersistence(name: "x-session", kind: .header)
        var response = ResponseHead(status: 200, fields: ["x-session": "the server's"])
        persistence.apply(to: &response, session: nil, endpoint: 5, now: 1, path: "/", isSecure: false)
        let text = SessionTag(endpoint: 5, began: 1, used: 1).text
        #expect(response.fields == ["x-session": text])
        let session = persistence.session(of: request("/", "GET", ["x-session": text]), now: 9)
        #expect(session?.endpoint == 5)
        var silent = ResponseHead(status: 200)
        persistence.apply(to: &silent, session: session, endpoint: 5, now: 9, path: "/", isSecure: false)
        #expect(silent.fields.isEmpty)
        // Its endpoint is gone: served by another.
        persistence.apply(to: &silent, session: session, endpoint: 6, now: 9, path: "/", isSecure: false)
        #expect(silent.fields.value(named: "x-session") == SessionTag(endpoint: 6, began: 1, used: 9).text)
    }

    @Test(
        "cookies are read as clients write them",
        arguments: [
            (["cookie": "a=1; b=2"], "2"), (["cookie": "a=1;b=2"], "2"), (["cookie": "b=\"2\""], "2"),
            (["cookie": "a=1", "cookie": "b=2; b=3"], "2"), (["cookie": "bb=1; b"], nil), (["cookie": " b = 2 "], "2"),
            (["cookie": "b="], ""), ([:], nil), (["cookie": "b=x=y"], "x=y"),
        ] as [(HTTP2HeaderList, String?)])
    func cookies(fields: HTTP2HeaderList, wanted: String?) {
        #expect(CookieField.value(named: "b", in: fields) == wanted)
    }

    @Test("what decides where a request goes")
    func keys() {
        func hash(_ choice: BackendBalancing.Choice, _ head: RequestHead, source: String = "10.0.0.1") -> UInt64? {
            choice.key(of: head, source: source, random: 0xabc)?.hash
        }
        let head = request("/?user=al%69ce", "GET", ["x-user": "alice", "cookie": "u=alice"])
        let alice = StableHash.of("alice".utf8)
        #expect(hash(.hashHeader("X-User"), head) == alice)
        #expect(hash(.hashQuery("user"), head) == alice)
        #expect(hash(.hashCookie(name: "u", path: "", lifetime: nil), head) == alice)
        #expect(hash(.hashSource, head, source: "alice") == alice)
        #expect(hash(.hashHeader("host"), head) == StableHash.of("echo".utf8))
        #expect(hash(.hashHeader("x"), head) == nil)
        #expect(hash(.hashQuery("x"), head) == nil)
        #expect(hash(.leastRequest, head) == nil)
        let new = BackendBalancing.Choice.hashCookie(name: "c", path: "/p", lifetime: .seconds(60))
            .key(of: head, source: "", random: 0xabc)
        #expect(new?.setCookie == "c=abc; Path=/p; HttpOnly; Max-Age=60")
        #expect(new?.hash == StableHash.of("abc".utf8))
        let short = BackendBalancing.Choice.hashCookie(name: "c", path: "", lifetime: nil)
            .key(of: head, source: "", random: 1)
        #expect(short?.setCookie == "c=1; Path=/; HttpOnly")
    }

    @Test(
        "base64url, by RFC 4648's vectors and against looser readings",
        arguments: [
            ("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ])
    func base64(text: String, encoded: String) {
        #expect(Base64URL.encode(Array(text.utf8)) == encoded)
        #expect(Base64URL.decode(encoded) == Array(text.utf8))
        for bad in ["Z", "Zh", "Zm9=", "Zg==", "Zm+v", "Zm/v", "Z g", "Zm9w\n"] {
            #expect(Base64URL.decode(bad) == nil)
        }
    }
}
