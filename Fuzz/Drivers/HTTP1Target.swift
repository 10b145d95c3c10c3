internal import MeshHTTP

extension FuzzTarget {
    static let http1 = [messages1]

    /// The first octet says where the input is cut, and whether it is requests or responses; what comes out must not
    /// depend on the cuts, and a message that was accepted says one thing.
    private static let messages1 = FuzzTarget(
        "http1",
        tokens: [
            "\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n", "Host: a\r\n", "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "5\r\nhello\r\n", "Connection: close\r\n", " ", "\t", ":",
            "\n",
            "Upgrade: x\r\n", "Expect: 100-continue\r\n",
        ],
        bytes: [[0], [0x0D], [0x80]]
    ) { bytes in
        guard let first = bytes.first else { return }
        let input = Array(bytes.dropFirst())
        let answered: HTTP1Reader.Answered? = first & 0x80 == 0 ? nil : first & 0x40 == 0 ? .other : .head
        let whole = Self.outcome(input, answered, step: max(1, input.count))
        let cut = Self.outcome(input, answered, step: 1 + Int(first & 0x3F))
        promise(whole == cut, "read whole: \(whole), cut each \(1 + Int(first & 0x3F)): \(cut)")
    }

    private static func outcome(_ input: [UInt8], _ answered: HTTP1Reader.Answered?, step: Int) -> [String] {
        var reader = answered == nil ? HTTP1Reader.requests() : .responses()
        if let answered { reader.expect(answered) }
        var lines: [String] = []
        var body: [UInt8] = []
        var at = 0
        while at < input.count {
            let end = min(input.count, at + step)
            let piece = Array(input[at..<end])
            at = end
            let error: HTTP1Error? = piece.withUnsafeBytes { whole in
                var rest = whole
                do throws(HTTP1Error) {
                    while let event = try reader.next(&rest) {
                        switch event {
                        case .head(let head):
                            Self.judge(head)
                            lines.append("\(head.start) \(head.framing) \(head.fields.count) \(head.keepsAlive)")
                        case .body(let bytes): body += bytes
                        case .end(let trailers):
                            lines.append("\(body) \(trailers.count)")
                            body = []
                        }
                    }
                    promise(rest.isEmpty || reader.isTunnel, "the reader stopped early")
                    return nil
                } catch { return error }
            }
            if let error { return lines + ["\(error)"] }
            if reader.isTunnel { return lines + ["tunnel"] }
        }
        return lines + ["\(body) \(reader.isIdle)"]
    }

    /// Of what was accepted.
    private static func judge(_ head: HTTP1Head) {
        var lengths = 0
        var encodings = 0
        for index in 0..<head.fields.count {
            let (name, value) = (head.fields.nameBytes(index), head.fields.valueBytes(index))
            promise(
                !name.isEmpty && name.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x3A }, "a name that is no token")
            promise(!value.contains { $0 == 0 || $0 == 0x0A || $0 == 0x0D }, "a line end in a value")
            if head.fields.name(index) == "content-length" { lengths += 1 }
            if head.fields.name(index) == "transfer-encoding" { encodings += 1 }
        }
        promise(lengths + encodings <= 1, "two ways to find the end of one message")
    }
}
