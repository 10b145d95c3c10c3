internal import MeshHTTP

extension FuzzTarget {
    static let http = [frames, hpack, connect, settings]

    /// The first octet says where the input is cut; events and errors must not depend on it.
    private static let frames = FuzzTarget(
        "http2-frames",
        tokens: ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        bytes: [
            [0, 0, 0, 4, 0, 0, 0, 0, 0], [0, 0, 8, 6, 0, 0, 0, 0, 0], [0, 0, 4, 8, 0, 0, 0, 0, 0],
            [0, 0, 4, 3, 0, 0, 0, 0, 1], [0, 0, 1, 1, 4, 0, 0, 0, 1], [0, 0, 1, 9, 4, 0, 0, 0, 1],
            [0, 0, 1, 0, 9, 0, 0, 0, 1], [0, 0, 8, 7, 0, 0, 0, 0, 0], [0, 0, 5, 2, 0, 0, 0, 0, 1],
        ]
    ) { bytes in
        guard let first = bytes.first else { return }
        let input = Array(bytes.dropFirst())
        for role in [HTTP2FrameReader.Role.client, .server] {
            let whole = Self.transcript(input, role, step: max(1, input.count))
            let cut = Self.transcript(input, role, step: 1 + Int(first))
            promise(whole == cut, "read whole: \(whole), cut each \(1 + Int(first)): \(cut)")
        }
    }

    /// What the reader says; payload by length, joined.
    private static func transcript(_ input: [UInt8], _ role: HTTP2FrameReader.Role, step: Int) -> [String] {
        var reader = HTTP2FrameReader(role: role)
        var lines: [String] = []
        var data: (id: UInt32, bytes: Int, charged: Int)?
        func flush() {
            if let piece = data { lines.append("data \(piece)") }
            data = nil
        }
        var at = 0
        while at < input.count {
            let end = min(input.count, at + step)
            let piece = Array(input[at..<end])
            at = end
            let error: HTTP2ConnectionError? = piece.withUnsafeBytes { whole in
                var rest = whole
                do throws(HTTP2ConnectionError) {
                    while let event = try reader.next(&rest) {
                        guard case .data(let id, let bytes, let charged, let isEnd) = event else {
                            flush()
                            lines.append("\(event)")
                            continue
                        }
                        promise(bytes.count <= charged, "payload that is not charged")
                        if let open = data, open.id != id.rawValue { flush() }
                        data = (id.rawValue, (data?.bytes ?? 0) + bytes.count, (data?.charged ?? 0) + charged)
                        if isEnd {
                            flush()
                            lines.append("end \(id)")
                        }
                    }
                    promise(rest.isEmpty, "the reader stopped early")
                    return nil
                } catch { return error }
            }
            if let error {
                flush()
                return lines + ["\(error)"]
            }
        }
        flush()
        return lines
    }

    /// Two header blocks of one connection, split at the first octet; what was decoded must survive our own encoder.
    private static let hpack = FuzzTarget(
        "hpack", tokens: [":authority", ":method", "CONNECT", "baggage"],
        bytes: [[0x20], [0x3f, 0xe1, 0x1f], [0x40], [0x82], [0xbe], [0x10], [0x7f, 0xff, 0xff, 0xff, 0x0f]]
    ) { bytes in
        guard let first = bytes.first else { return }
        let split = min(Int(first), bytes.count - 1) + 1
        var decoder = HPACKDecoder(listBytesMax: 4096)
        var encoder = HPACKEncoder()
        var again = HPACKDecoder()
        for block in [Array(bytes[1..<split]), Array(bytes[split...])] {
            guard let list = try? decoder.decode(block) else { return }
            promise(decoder.tableBytes <= HPACKDecoder.tableBytesMaxDefault, "the table outgrew its limit")
            promise(list.listBytes <= 4096, "the list outgrew its limit")
            if list.isTruncated { continue }
            let back = try? again.decode(encoder.encode(list))
            promise(back == list, "\(list) came back as \(String(describing: back))")
        }
    }

    /// A block as a CONNECT request and as an answer.
    private static let connect = FuzzTarget(
        "connect", tokens: [":method", "CONNECT", ":authority", "10.0.0.1:80", ":status", "200", "host", "te"],
        bytes: [[0x41], [0x42], [0x88], [0x00], [0x0f, 0x0d]]
    ) { bytes in
        var decoder = HPACKDecoder()
        guard let list = try? decoder.decode(bytes) else { return }
        if let request = try? HTTP2ConnectRequest(validating: list) {
            promise(!list.isTruncated, "a truncated request was served")
            let isClean = request.authority.utf8.allSatisfy { (33...126).contains($0) }
            promise(isClean && request.authority.contains(":"), "the authority \(request.authority)")
        }
        if let answer = try? HTTP2ResponseHead(validating: list) {
            promise((100...599).contains(answer.status), "the status \(answer.status)")
        }
        _ = try? HTTP2FieldRules.checkTrailers(list)
        _ = try? HTTP2FieldRules.contentLength(list)
    }

    /// SETTINGS in order, and the window of a stream that lives through them.
    private static let settings = FuzzTarget("settings") { bytes in
        var settings = HTTP2Settings()
        var window = FlowWindow(settings.initialWindowBytes)
        var encoder = HPACKEncoder()
        for at in stride(from: 0, to: bytes.count - 5, by: 6) {
            let id = HTTP2Setting.ID(rawValue: UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]))
            let value = bytes[(at + 2)..<(at + 6)].reduce(0) { $0 << 8 | UInt32($1) }
            guard let change = try? settings.apply([HTTP2Setting(id, value)], from: .client) else { return }
            if let table = change.headerTableBytes { encoder.peerTableBytesMaxChanged(to: table.last) }
            do { try window.adjust(by: change.initialWindowDelta) } catch { return }
            window.consume(min(window.sendable, 1000))
            promise(window.available <= HTTP2Settings.windowBytesMax, "the window is \(window.available)")
        }
    }
}
