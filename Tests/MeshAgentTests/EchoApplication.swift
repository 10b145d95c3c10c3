import Foundation
import MeshTestSupport
import Testing

/// Answers each request with its name and the request's head, as it came. A path that begins with `/status/` gets that
/// status.
final class EchoApplication: Sendable {
    let name: String
    private let server: BlockingServer
    var port: UInt16 { self.server.port }

    init(_ name: String) throws {
        self.name = name
        self.server = try BlockingServer { socket in
            var bytes: [UInt8] = []
            do {
                while true {
                    while bytes.firstRange(of: Array("\r\n\r\n".utf8)) == nil {
                        let more = try socket.receive()
                        if more.isEmpty { return }
                        bytes += more
                    }
                    let end = bytes.firstRange(of: Array("\r\n\r\n".utf8))!.upperBound
                    let head = String(decoding: bytes[..<end], as: UTF8.self)
                    bytes.removeSubrange(..<end)
                    var status = "200"
                    if let place = head.firstRange(of: "/status/") {
                        status = String(head[place.upperBound...].prefix(3))
                    }
                    let body = "\(name)\n\(head)"
                    try socket.send(
                        "HTTP/1.1 \(status) Some\r\ncontent-length: \(body.utf8.count)\r\nx-app: \(name)\r\n\r\n\(body)"
                            .utf8)
                }
            } catch {
                // The client went away; so does this thread.
            }
        }
    }
}

/// One exchange of HTTP/1.1, on a connection of its own.
struct HTTPText {
    var status: Int
    /// Lower-case names, and values.
    var headers: [(name: String, value: String)]
    var body: String

    func header(_ name: String) -> String? { self.headers.first { $0.name == name }?.value }
    /// Of an ``EchoApplication``: the head that it saw.
    var seen: [String] { self.body.split(separator: "\r\n").map(String.init) }
    var application: String { String(self.body.prefix { $0 != "\n" }) }

    static func get(
        _ host: String, _ port: UInt16, _ path: String, _ headers: [String: String] = [:], method: String = "GET",
        authority: String = "echo"
    ) async throws -> HTTPText {
        var request = "\(method) \(path) HTTP/1.1\r\nhost: \(authority)\r\nconnection: close\r\n"
        for (name, value) in headers.sorted(by: { $0.key < $1.key }) { request += "\(name): \(value)\r\n" }
        let text = request + "\r\n"
        let bytes = try await offThread {
            let socket = try BlockingSocket.connect(port: port)
            try socket.send(text.utf8)
            return try socket.receiveToEnd()
        }
        return HTTPText(String(decoding: bytes, as: UTF8.self))
    }

    private init(_ text: String) {
        let parts = text.components(separatedBy: "\r\n\r\n")
        let lines = (parts.first ?? "").components(separatedBy: "\r\n")
        let words = (lines.first ?? "").split(separator: " ")
        self.status = words.count > 1 ? Int(words[1]) ?? 0 : 0
        self.headers = lines.dropFirst().map { line in
            let colon = line.firstIndex(of: ":") ?? line.endIndex
            return (line[..<colon].lowercased(), line[colon...].dropFirst().trimmingCharacters(in: .whitespaces))
        }
        self.body = parts.dropFirst().joined(separator: "\r\n\r\n")
    }
}
