import MeshTestSupport

/// One end of a plain connection that speaks HTTP/1 as a test tells it to, or any bytes: blocking, for one thread.
///
/// Its parser shares nothing with the product's.
final class HTTPPeer: @unchecked Sendable {
    struct Message: Sendable {
        /// Request line or status line.
        var start: String
        var fields: [(name: String, value: String)] = []
        var body: [UInt8] = []
        var trailers: [(name: String, value: String)] = []

        /// The first value of a field, by its name in lower case.
        subscript(_ name: String) -> String? { self.fields.first { $0.name == name }?.value }
        var text: String { String(decoding: self.body, as: UTF8.self) }
        var status: Int { Int(self.start.split(separator: " ").dropFirst().first ?? "") ?? 0 }
        var method: String { String(self.start.prefix { $0 != " " }) }
        var target: String { String(self.start.split(separator: " ").dropFirst().first ?? "") }
    }

    struct Broken: Error, CustomStringConvertible { let description: String }

    let socket: BlockingSocket
    private var buffer: [UInt8] = []
    private var at = 0

    init(_ socket: BlockingSocket) { self.socket = socket }

    func send(_ text: String) throws { try self.socket.send(Array(text.utf8)) }
    func send(_ bytes: [UInt8]) throws { try self.socket.send(bytes) }
    func finish() { self.socket.finishWriting() }

    // MARK: Reading

    /// False at the end.
    private func fill() throws -> Bool {
        if self.at > 0, self.at == self.buffer.count {
            self.buffer = []
            self.at = 0
        }
        let next = try self.socket.receive(64 << 10)
        self.buffer += next
        return !next.isEmpty
    }

    /// Up to the line's end; nil at the end of the connection.
    func line() throws -> String? {
        var searched = self.at
        while true {
            if let end = self.buffer[searched...].firstIndex(of: 0x0A) {
                guard end > self.at, self.buffer[end - 1] == 0x0D else { throw Broken(description: "LF alone") }
                defer { self.at = end + 1 }
                return String(decoding: self.buffer[self.at..<(end - 1)], as: UTF8.self)
            }
            let unread = self.buffer.count - self.at
            guard try self.fill() else {
                guard unread == 0 else { throw Broken(description: "the end inside a line") }
                return nil
            }
            searched = self.at + unread
        }
    }

    /// Exactly so many; fewer only at the end.
    func bytes(_ count: Int) throws -> [UInt8] {
        while self.buffer.count - self.at < count {
            guard try self.fill() else { break }
        }
        let end = min(self.buffer.count, self.at + count)
        defer { self.at = end }
        return Array(self.buffer[self.at..<end])
    }

    func toEnd() throws -> [UInt8] {
        while try self.fill() {}
        defer { self.at = self.buffer.count }
        return Array(self.buffer[self.at...])
    }

    private func fields() throws -> [(name: String, value: String)] {
        var fields: [(name: String, value: String)] = []
        while let line = try self.line(), !line.isEmpty {
            guard let colon = line.firstIndex(of: ":") else { throw Broken(description: "no colon: \(line)") }
            fields.append(
                (line[..<colon].lowercased(), String(line[line.index(after: colon)...].drop { $0 == " " })))
        }
        return fields
    }

    /// A message up to its body; nil at the end of the connection.
    func head() throws -> Message? {
        guard let start = try self.line() else { return nil }
        return Message(start: start, fields: try self.fields())
    }

    /// A request with its body; nil at the end of the connection.
    func request() throws -> Message? {
        guard var message = try self.head() else { return nil }
        try self.body(of: &message, untilClose: false)
        return message
    }

    /// A response with its body. Informational ones are skipped, unless `informational`.
    func response(to method: String = "GET", informational: Bool = false) throws -> Message {
        while true {
            guard var message = try self.head() else { throw Broken(description: "the end instead of a response") }
            guard message.start.hasPrefix("HTTP/1.") else { throw Broken(description: "no response: \(message.start)") }
            if message.status < 200, message.status != 101 {
                if informational { return message }
                continue
            }
            if method != "HEAD", message.status != 204, message.status != 304, message.status != 101 {
                try self.body(of: &message, untilClose: true)
            }
            return message
        }
    }

    private func body(of message: inout Message, untilClose: Bool) throws {
        if message["transfer-encoding"] == "chunked" {
            while let line = try self.line() {
                guard let size = Int(line.prefix { $0 != ";" }, radix: 16) else {
                    throw Broken(description: "a chunk size: \(line)")
                }
                if size == 0 {
                    message.trailers = try self.fields()
                    return
                }
                message.body += try self.bytes(size)
                guard try self.bytes(2) == [0x0D, 0x0A] else { throw Broken(description: "a chunk's end") }
            }
            throw Broken(description: "the end inside a chunked body")
        } else if let length = message["content-length"].flatMap({ Int($0) }) {
            message.body = try self.bytes(length)
            guard message.body.count == length else { throw Broken(description: "the end inside a body") }
        } else if untilClose {
            message.body = try self.toEnd()
        }
    }
}

/// A server of HTTP/1 whose answers are a closure; it remembers what it was asked.
final class HTTPServer: Sendable {
    let requests = Log<HTTPPeer.Message>()
    /// Connections that were accepted, and those that have ended.
    let accepted = Log<Void>()
    let ended = Log<Void>()
    private let server: BlockingServer
    var port: UInt16 { self.server.port }

    /// - Parameter answer: what goes out for each request; nil: the server closes.
    convenience init(_ answer: @escaping @Sendable (HTTPPeer.Message) -> String?) throws {
        try self.init(scripted: { peer, note in
            while let request = try peer.request() {
                note(request)
                guard let text = answer(request) else { return }
                try peer.send(text)
            }
        })
    }

    /// - Parameter script: serves one connection, which closes when it returns. The second argument remembers a request.
    init(scripted script: @escaping @Sendable (HTTPPeer, (HTTPPeer.Message) -> Void) throws -> Void) throws {
        let (requests, accepted, ended) = (self.requests, self.accepted, self.ended)
        self.server = try BlockingServer { socket in
            accepted.add(())
            try? script(HTTPPeer(socket)) { requests.add($0) }
            ended.add(())
        }
    }

    /// Answers every request with its body, or its target when there is none.
    static func echo() throws -> HTTPServer {
        try HTTPServer { request in
            let body = request.body.isEmpty ? request.target : request.text
            return ok(body)
        }
    }
}

func ok(_ body: String, _ fields: String = "") -> String {
    "HTTP/1.1 200 OK\r\n\(fields)content-length: \(body.utf8.count)\r\n\r\n\(body)"
}

func get(_ target: String, _ fields: String = "") -> String { "GET \(target) HTTP/1.1\r\nhost: cart\r\n\(fields)\r\n" }

func post(_ target: String, _ body: String, _ fields: String = "") -> String {
    "POST \(target) HTTP/1.1\r\nhost: cart\r\n\(fields)content-length: \(body.utf8.count)\r\n\r\n\(body)"
}
