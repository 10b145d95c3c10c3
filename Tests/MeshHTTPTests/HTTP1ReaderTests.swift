import MeshHTTP
import MeshTestSupport
import Testing

/// Everything that a reader makes of some octets.
private struct Reading: Equatable {
    var lines: [String] = []
    var error: HTTP1Error?

    /// - Parameter piece: bytes that arrive at a time.
    init(
        _ text: String, piece: Int = .max, answering: HTTP1Reader.Answered? = nil, closes: Bool = false,
        limits: HTTP1Limits = HTTP1Limits()
    ) {
        var reader = answering == nil ? HTTP1Reader.requests(limits: limits) : .responses(limits: limits)
        if let answering { reader.expect(answering) }
        let octets = text.unicodeScalars.map { UInt8($0.value) }
        var body: [UInt8] = []
        do throws(HTTP1Error) {
            var at = 0
            while at < octets.count {
                let end = piece < octets.count - at ? at + piece : octets.count
                // Each piece in memory of its own, as from a socket.
                let error: HTTP1Error? = Array(octets[at..<end]).withUnsafeBytes { bytes in
                    var input = bytes
                    do throws(HTTP1Error) {
                        while let event = try reader.next(&input) { self.note(event, &body) }
                        return nil
                    } catch { return error }
                }
                if let error { throw error }
                at = end
            }
            if closes, let event = try reader.closed() { self.note(event, &body) }
            self.lines.append(reader.isTunnel ? "tunnel" : reader.isIdle ? "idle" : "waiting")
        } catch {
            self.error = error
        }
    }

    private mutating func note(_ event: HTTP1Event, _ body: inout [UInt8]) {
        switch event {
        case .head(let head):
            let fields = (0..<head.fields.count).map { "\(head.fields.name($0))=\(head.fields.value($0))" }
            self.lines.append("\(head.start) \(head.framing) \(fields.joined(separator: " "))")
            if !head.keepsAlive { self.lines.append("closes") }
            if let upgrade = head.upgrade { self.lines.append("upgrade \(upgrade)") }
            if head.expectsContinue { self.lines.append("expects continue") }
        case .body(let bytes): body += bytes
        case .end(let trailers):
            let fields = (0..<trailers.count).map { " \(trailers.name($0))=\(trailers.value($0))" }
            self.lines.append("body \(String(decoding: body, as: UTF8.self))\(fields.joined())")
            body = []
        }
    }
}

@Suite("HTTP/1 messages")
struct HTTP1ReaderTests {
    static let good = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nPOST /x?y HTTP/1.1\r\nhost:a:80\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
        "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
            + "5;name=\"v\"\r\nhello\r\n00b \t;x\r\n, 0123456\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\nz",
        "OPTIONS * HTTP/1.1\r\nHost:\r\nX-Empty:\r\nX-Text: \t\u{e9} a\tb \r\n\r\n",
    ]

    @Test("the outcome does not depend on how the network cuts", arguments: good)
    func cuts(text: String) {
        let whole = Reading(text)
        #expect(whole.error == nil && whole.lines.last == "idle")
        for piece in 1...12 { #expect(Reading(text, piece: piece) == whole, "pieces of \(piece)") }
    }

    @Test("what messages mean")
    func meaning() {
        #expect(
            Reading(Self.good[1]).lines == [
                "request(method: \"POST\", target: \"/x?y\") length(5) host=a:80 content-length=5", "body hello",
                "request(method: \"GET\", target: \"/2\") none host=b", "body ", "idle",
            ])
        #expect(Reading(Self.good[2]).lines[1] == "body hello, 0123456\r\n x-sum=1")
        #expect(Reading(Self.good[3]).lines[1] == "closes")
        #expect(!Reading(Self.good[4]).lines.contains("closes"))
        #expect(Reading(Self.good[5]).lines[1] == "upgrade websocket")
        #expect(Reading(Self.good[6]).lines[1...2] == ["closes", "expects continue"])
    }

    @Test("a request that could mean two things is refused", arguments: SmuggledRequests.all.map(\.text))
    func refused(text: String) throws {
        let status = try #require(SmuggledRequests.all.first { $0.text == text }).status
        for piece in [Int.max, 1, 3] {
            let reading = Reading(text, piece: piece)
            #expect(reading.error?.status == status, "\(text.debugDescription): \(reading)")
            #expect(reading.lines.isEmpty, "nothing of it was handed out")
        }
    }

    static let brokenChunks = [
        "x\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5\nhello\r\n", "5\r\nhello!\r\n", "5\r\nhello\n0\r\n\r\n", ";x\r\n",
        "5 x\r\nhello\r\n", "5\r\nhelloX\n", "1000000000000000\r\n", "5;\u{0}\r\nhello\r\n", " 5\r\nhello\r\n",
        "0\r\nContent-Length: 3\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nX: 1\n\r\n",
    ]

    @Test("broken chunks end the message where they break", arguments: brokenChunks)
    func chunks(body: String) {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for piece in [Int.max, 1] {
            let reading = Reading(head + body, piece: piece)
            #expect(reading.error?.status == 400, "\(reading)")
            #expect(reading.lines.count == 1, "the head, and no end: \(reading)")
        }
    }

    @Test("limits are kept, with the status for each")
    func limits() {
        var limits = HTTP1Limits()
        (limits.headBytesMax, limits.targetBytesMax, limits.fieldsMax) = (200, 50, 4)
        limits.trailerBytesMax = 40
        limits.extensionBytesMax = 30
        func status(_ text: String) -> Int? {
            let statuses = [Int.max, 1, 7].map { Reading(text, piece: $0, limits: limits).error?.status }
            #expect(Set(statuses).count == 1, "\(statuses)")
            return statuses[0]
        }
        let host = "Host: a\r\n"
        #expect(status("GET /\(String(repeating: "x", count: 49)) HTTP/1.1\r\n\(host)\r\n") == nil)
        #expect(status("GET /\(String(repeating: "x", count: 50)) HTTP/1.1\r\n\(host)\r\n") == 414)
        #expect(status("GET / HTTP/1.1\r\n\(host)X: \(String(repeating: "x", count: 300))\r\n\r\n") == 431)
        #expect(status("GET / HTTP/1.1\r\n\(host)X: \(String(repeating: "x", count: 300))") == 431)
        #expect(status("GET / HTTP/1.1\r\n\(host)A: 1\r\nB: 1\r\nC: 1\r\n\r\n") == nil)
        #expect(status("GET / HTTP/1.1\r\n\(host)A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n") == 431)
        let chunked = "POST / HTTP/1.1\r\n\(host)Transfer-Encoding: chunked\r\n\r\n"
        #expect(status(chunked + "0\r\nX: \(String(repeating: "x", count: 60))\r\n\r\n") == 431)
        #expect(status(chunked + "1;aaaaaaaaaaaaaaaaaaa\r\na\r\n1;aaaaaaaaaaaaaaaaaaa\r\na\r\n0\r\n\r\n") == 400)
        #expect(status(chunked + "1;\(String(repeating: "a", count: 400))") == 400)
    }

    @Test("where a response ends depends on what it answers and how it begins")
    func responses() {
        func lines(_ text: String, _ answered: HTTP1Reader.Answered = .other, closes: Bool = false) -> [String] {
            let whole = Reading(text, answering: answered, closes: closes)
            for piece in [1, 5] {
                #expect(Reading(text, piece: piece, answering: answered, closes: closes) == whole)
            }
            return whole.error.map { ["\($0.status)"] } ?? Array(whole.lines.dropFirst())
        }
        #expect(lines("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == ["body ok", "idle"])
        #expect(lines("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n", .head) == ["body ", "idle"])
        #expect(lines("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n") == ["body ", "idle"])
        #expect(lines("HTTP/1.1 204\r\nTransfer-Encoding: chunked\r\n\r\n") == ["body ", "idle"])
        #expect(lines("HTTP/1.1 200 OK\r\n\r\nall", closes: true) == ["closes", "body all", "idle"])
        #expect(lines("HTTP/1.1 200 OK\r\n\r\n\u{16}\u{3}", .connect) == ["tunnel"])
        #expect(
            lines("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw") == ["upgrade x", "tunnel"])
        #expect(
            lines("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n") == [
                "body ", "response(status: 201) none content-length=0", "body ", "idle",
            ])
        #expect(lines("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", closes: true) == ["400"])
        #expect(lines("HTTP/1.1 20 OK\r\n\r\n") == ["400"])
        #expect(lines("HTTP/1.1 099 OK\r\n\r\n") == ["400"])
        #expect(lines("HTTP/1.1 2000 OK\r\n\r\n") == ["400"])
        #expect(lines("ICY 200 OK\r\n\r\n") == ["400"])
    }
}
