import KubeClient
import Testing

@Suite("The answer of a server inside a pod")
struct PodResponseTests {
    /// Fed byte by byte, which is the worst that a connection can do.
    private func read(_ text: String) throws -> PodResponse {
        var reader = PodResponseReader()
        for byte in text.utf8 { if let response = try reader.receive([byte]) { return response } }
        return try reader.end()
    }

    @Test(
        "is whole by its length, its last chunk, or the end of the connection",
        arguments: [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, ""),
            ("HTTP/1.0 404 Not Found\r\n\r\nno such page", 404, "no such page"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 200, "hello"),
        ])
    func whole(text: String, status: Int, body: String) throws {
        #expect(try self.read(text) == PodResponse(status: status, body: Array(body.utf8)))
    }

    @Test(
        "that breaks off or is none is an error",
        arguments: [
            "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "HTTP/1.1 99 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n\r\n",
        ])
    func broken(text: String) {
        #expect(throws: PodResponseReader.Invalid.self) { try self.read(text) }
    }
}
