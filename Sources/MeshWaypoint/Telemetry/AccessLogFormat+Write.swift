internal import MeshTelemetry

extension AccessLogFormat {
    /// The line with its end.
    func line(_ entry: AccessLogEntry) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(512)
        switch self.shape {
        case .text(let pieces):
            for piece in pieces { Self.append(piece, entry, to: &bytes) }
        case .json(let members):
            var json = JSONText()
            json.object { json in
                for member in members { Self.append(member.key, member.pieces, entry, to: &json) }
            }
            bytes = json.bytes
            bytes.append(UInt8(ascii: "\n"))
        }
        return bytes
    }

    private static func append(_ key: String, _ pieces: [Piece], _ entry: AccessLogEntry, to json: inout JSONText) {
        if pieces.count == 1, case .value(let wanted, nil) = pieces[0] {
            switch entry.value(wanted) {
            case .missing: return json.null(key)
            case .number(let number): return json.member(key, number)
            case .text(let text): return json.member(key, text)
            case .bytes(let text): return json.member(key, String(decoding: text, as: UTF8.self))
            case .time: break
            }
        }
        var text: [UInt8] = []
        for piece in pieces { Self.append(piece, entry, to: &text) }
        json.member(key, String(decoding: text, as: UTF8.self))
    }

    private static func append(_ piece: Piece, _ entry: AccessLogEntry, to bytes: inout [UInt8]) {
        switch piece {
        case .literal(let text): bytes += text
        case .value(let wanted, let bytesMax):
            let start = bytes.count
            switch entry.value(wanted) {
            case .missing: bytes.append(UInt8(ascii: "-"))
            case .number(let number): bytes += String(number).utf8
            case .text(let text): Self.append(oneLine: text.utf8, to: &bytes)
            case .bytes(let text): Self.append(oneLine: text, to: &bytes)
            case .time(let format): format.append(microseconds: entry.startMicroseconds, to: &bytes)
            }
            if let bytesMax, bytes.count - start > bytesMax { bytes.removeLast(bytes.count - start - bytesMax) }
        }
    }

    /// Nothing that arrives from outside may start a line of its own.
    private static func append(oneLine text: some Sequence<UInt8>, to bytes: inout [UInt8]) {
        for byte in text { bytes.append(byte < 0x20 || byte == 0x7f ? UInt8(ascii: " ") : byte) }
    }
}
