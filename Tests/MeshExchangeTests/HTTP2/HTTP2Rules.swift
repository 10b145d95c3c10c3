import MeshHTTP
import Testing

/// A rule of RFC 9113 or RFC 7541, as what a client does and what it must hear: numbered like h2spec's cases, which say
/// the same of RFC 7540.
struct HTTP2Rule: CustomTestStringConvertible, Sendable {
    enum Answer: Sendable {
        /// The connection ends with this GOAWAY.
        case goAway(HTTP2ErrorCode)
        /// The stream ends with this RST_STREAM, and another request on the connection is served.
        case reset(UInt32, HTTP2ErrorCode)
        /// These requests are served, and the connection lives.
        case served([UInt32])
        /// This is heard, and the connection lives.
        case heard(FramePeer.Said)
        /// The connection ends without a word of HTTP/2.
        case closed
        /// Nothing comes of it, and the connection lives.
        case ignored
    }

    let number, name: String
    let answer: Answer
    let script: @Sendable (HTTP2Script) -> Void
    var testDescription: String { "\(self.number) \(self.name)" }

    init(_ number: String, _ name: String, _ answer: Answer, _ script: @escaping @Sendable (HTTP2Script) -> Void) {
        self.number = number
        self.name = name
        self.answer = answer
        self.script = script
    }
}

/// A client that follows a rule's script. Endpoints answer when they are told to.
final class HTTP2Script {
    let waypoint = MemoryWaypoint()
    let peer: FramePeer

    /// - Parameter isIntroduced: the preface and empty settings have been exchanged.
    init(isIntroduced: Bool = true) {
        self.peer = FramePeer(self.waypoint.accept(), .client)
        if isIntroduced { self.peer.begin() }
    }

    /// A request without a body.
    func get(_ stream: UInt32, _ more: [(String, String)] = []) { self.peer.headers(stream, sampleGet + more) }
    /// A request whose body is to come.
    func post(_ stream: UInt32, _ more: [(String, String)] = []) {
        self.peer.headers(stream, samplePost + more, end: false)
    }

    func send(
        _ type: HTTP2FrameType, _ flags: HTTP2FrameFlags = [], _ stream: UInt32 = 0, _ payload: [UInt8] = []
    ) { self.peer.send(type, flags, stream, payload) }

    /// The endpoints answer what they were asked, and the client hears it.
    func answer() {
        self.waypoint.answerAll()
        self.peer.listen()
    }

    func check(_ answer: HTTP2Rule.Answer, sourceLocation: SourceLocation = #_sourceLocation) {
        self.peer.listen()
        let said = Comment(rawValue: "heard: \(self.peer.said.map(\.description).joined(separator: "; "))")
        switch answer {
        case .goAway(let code):
            #expect(self.peer.goAways == [code], said, sourceLocation: sourceLocation)
            #expect(self.peer.channel.isOver, sourceLocation: sourceLocation)
        case .closed:
            #expect(self.peer.channel.isOver, sourceLocation: sourceLocation)
        case .reset(let id, let code):
            #expect(self.peer.resetCode(id) == code, said, sourceLocation: sourceLocation)
            self.checkLife(sourceLocation)
        case .heard(let wanted):
            #expect(self.peer.said.contains(wanted), said, sourceLocation: sourceLocation)
            self.checkLife(sourceLocation)
        case .ignored:
            #expect(self.peer.said.isEmpty, said, sourceLocation: sourceLocation)
            self.checkLife(sourceLocation)
        case .served(let ids):
            self.answer()
            for id in ids {
                let method = id == self.headOnly ? "HEAD" : "GET"
                #expect(self.peer.head(id)?[":status"] == "200", said, sourceLocation: sourceLocation)
                #expect(self.peer.hasEnded(id), said, sourceLocation: sourceLocation)
                if method == "GET" { #expect(self.peer.body(id) == "hello", sourceLocation: sourceLocation) }
            }
            self.checkLife(sourceLocation)
        }
    }

    /// A stream whose response has no body.
    var headOnly: UInt32 = 0

    private func checkLife(_ sourceLocation: SourceLocation) {
        #expect(self.peer.goAways.isEmpty && !self.peer.channel.isOver, sourceLocation: sourceLocation)
        self.peer.headers(1_001, sampleGet)
        self.peer.window(1_001, 1_000)
        self.answer()
        #expect(self.peer.body(1_001) == "hello", "served afterwards", sourceLocation: sourceLocation)
    }
}

let sampleGet: [(String, String)] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "cart")]
let samplePost: [(String, String)] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "cart")]
/// ``sampleGet``, and more behind it.
func adding(_ more: [(String, String)]) -> [(String, String)] { sampleGet + more }
/// The header block of ``sampleGet``.
var getBlock: [UInt8] { block(sampleGet) }
var postBlock: [UInt8] { block(samplePost) }

func setting(_ id: HTTP2Setting.ID, _ value: UInt32) -> [UInt8] {
    join([UInt8(id.rawValue >> 8), UInt8(id.rawValue & 255)], word(value))
}

/// One behind the other; a chain of `+` takes the compiler too long in a list as long as these.
func join(_ parts: [UInt8]...) -> [UInt8] { parts.flatMap { $0 } }

@Suite("HTTP/2 conformance")
struct HTTP2ConformanceTests {
    static let rules: [HTTP2Rule] = [
        genericRules, connectionRules, streamRules, frameRules, settingsRules, messageRules, compressionRules,
    ].flatMap { $0 }

    @Test(arguments: rules) func rule(_ rule: HTTP2Rule) {
        let script = HTTP2Script(isIntroduced: !rule.number.hasPrefix("http2 3.5"))
        rule.script(script)
        script.check(rule.answer)
    }

    @Test("every case of h2spec has a rule") func count() {
        #expect(Self.rules.count == 147)
        #expect(Set(Self.rules.map(\.number)).count == Self.rules.count)
    }
}
