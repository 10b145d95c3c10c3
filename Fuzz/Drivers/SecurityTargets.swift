internal import MeshLoop

/// What a peer of the tunnel sends inside and beside TLS records, and what an authority publishes.
extension FuzzTarget {
    static let security = [tlsRecords, revocations]

    /// The first octet: 1 for a server that reads, 2 for a writer that changes its key after every other record; the second
    /// says where the network cuts. Then records, each a type, a length and as many octets; type 0 is not sealed at all.
    private static let tlsRecords = FuzzTarget(
        "tls-records",
        bytes: [
            [23, 1, 120], [21, 2, 1, 0], [21, 2, 1, 90], [21, 2, 2, 40], [22, 5, 24, 0, 0, 1, 0],
            [22, 5, 24, 0, 0, 1, 1],
            [22, 4, 4, 0, 0, 1], [0, 5, 23, 3, 3, 0, 17], [23, 0],
        ]
    ) { bytes in
        guard bytes.count >= 2 else { return }
        let isServer = bytes[0] & 1 != 0
        let script = RecordScript(bytes[2...], isServer: isServer, changesKeys: bytes[0] & 2 != 0)
        let whole = script.read(piecesOf: .max)
        promise(script.read(piecesOf: Int(bytes[1]) + 1) == whole, "the network's cuts change the outcome")
        promise(script.isFaithful(whole), "data is not what was sealed")
    }

    /// A file as it is mounted.
    private static let revocations = FuzzTarget(
        "revocations", tokens: ["-----BEGIN X509 CRL-----\n", "-----END X509 CRL-----\n"],
        bytes: [[0x30, 0x82], [0x30, 0x80], [0x02, 0x01], [0x17, 0x0D], [0x55, 0x1D, 0x1C], [0x55, 0x1D, 0x1B]]
    ) { bytes in
        guard let list = try? RevocationList(bytes) else { return }
        promise(list.lists <= RevocationList.listsMax, "\(list.lists) lists")
        promise(list.entries <= bytes.count, "more entries than octets")
        _ = list.isOutdated(nowSeconds: 1_800_000_000)
        // One list as it is, and not within PEM.
        guard list.lists == 1, bytes.first == 0x30, !String(decoding: bytes, as: UTF8.self).contains("-----BEGIN ")
        else {
            return
        }
        let wrapped = try? RevocationList(pem(bytes))
        promise(wrapped?.lists == 1 && wrapped?.entries == list.entries, "PEM says something else")
    }

    private static func pem(_ bytes: [UInt8]) -> [UInt8] {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text = Array("-----BEGIN X509 CRL-----\n".utf8)
        for line in stride(from: 0, to: bytes.count, by: 48) {
            for at in stride(from: line, to: min(line + 48, bytes.count), by: 3) {
                let three = (0..<3).map { at + $0 < bytes.count ? UInt32(bytes[at + $0]) : 0 }
                let bits = three[0] << 16 | three[1] << 8 | three[2]
                for digit in 0..<4 {
                    let isPadding = at + digit > bytes.count
                    text.append(isPadding ? UInt8(ascii: "=") : alphabet[Int(bits >> UInt32(18 - 6 * digit) & 63)])
                }
            }
            text.append(10)
        }
        return text + Array("-----END X509 CRL-----\n".utf8)
    }
}

/// What a peer seals and sends, and what the reader makes of it.
private struct RecordScript {
    private static let secrets = ((0..<32).map { UInt8($0) }, (0..<32).map { UInt8(0x80 + $0) })

    private let isServer: Bool
    private let changesKeys: Bool
    private var wire: [UInt8] = []
    /// Data records up to the first one that the peer should not have sent.
    private var data: [UInt8] = []
    private var isHonest = true

    struct Outcome: Equatable {
        enum End: Equatable { case wantsMore, closed, failed(String) }
        var text: [UInt8] = []
        var records = 0
        var end = End.wantsMore
    }

    init(_ script: ArraySlice<UInt8>, isServer: Bool, changesKeys: Bool) {
        self.isServer = isServer
        self.changesKeys = changesKeys
        guard let writer = self.session(isServer: !isServer) else { return }
        var rest = script
        while let type = rest.popFirst(), let length = rest.popFirst() {
            let content = Array(rest.prefix(Int(length)))
            rest = rest.dropFirst(content.count)
            self.append(type, content, writer)
        }
    }

    /// Both sides have the same two secrets, the other way round.
    private func session(isServer: Bool) -> TLSSession? {
        let (up, down) = Self.secrets
        return TLSSession(
            secrets: isServer ? (in: up, out: down) : (in: down, out: up), isServer: isServer,
            recordsPerKey: self.changesKeys ? 2 : TLSSession.recordsPerKey)
    }

    private mutating func append(_ type: UInt8, _ content: [UInt8], _ writer: TLSSession) {
        guard type != 0 else {
            self.isHonest = self.isHonest && content.isEmpty
            return self.wire += content
        }
        var room = [UInt8](repeating: 0, count: 128 + content.count)
        let update = room.withUnsafeMutableBytes { writer.begin(into: $0) }
        self.wire += room[..<update]
        room.replaceSubrange(TLSRecord.headerBytes..<(TLSRecord.headerBytes + content.count), with: content)
        let isSealed = room.withUnsafeMutableBytes { writer.seal($0.baseAddress!, content.count, type: type) }
        promise(isSealed, "a record of \(content.count) octets was not sealed")
        self.wire += room[..<(content.count + TLSRecord.overheadBytes)]
        // An empty record brings nothing, but too many of them end the connection.
        if type != 23 || content.isEmpty { self.isHonest = false }
        if self.isHonest { self.data += content }
    }

    /// The reader opens whatever is complete, as the network brings it.
    func read(piecesOf size: Int) -> Outcome {
        var outcome = Outcome()
        guard let reader = self.session(isServer: self.isServer) else { return outcome }
        var kept: [UInt8] = []
        var at = 0
        while at < self.wire.count, outcome.end == .wantsMore {
            let count = min(size, self.wire.count - at)
            kept += self.wire[at..<(at + count)]
            at += count
            self.open(&kept, reader, &outcome)
        }
        self.answer(reader)
        return outcome
    }

    private func open(_ kept: inout [UInt8], _ reader: TLSSession, _ outcome: inout Outcome) {
        while !kept.isEmpty {
            let opened = kept.withUnsafeMutableBytes { reader.open($0) }
            switch opened {
            case .data(let bytes, let text):
                promise(bytes <= kept.count && text + TLSRecord.headerBytes < bytes, "\(text) of \(bytes) octets")
                outcome.text += kept[TLSRecord.headerBytes..<(TLSRecord.headerBytes + text)]
                outcome.records += 1
                kept.removeFirst(bytes)
            case .nothing(let bytes):
                promise(bytes <= kept.count && bytes >= TLSRecord.overheadBytes, "nothing in \(bytes) octets")
                outcome.records += 1
                kept.removeFirst(bytes)
            case .wantsMore: return
            case .closed:
                outcome.end = .closed
                return
            case .failed:
                outcome.end = .failed(reader.errorText)
                return
            }
        }
    }

    /// Whatever came, the reader can still seal, and an honest peer can open it: with a new key when it asked for one.
    private func answer(_ reader: TLSSession) {
        var room = [UInt8](repeating: 0, count: 256)
        let update = room.withUnsafeMutableBytes { reader.begin(into: $0) }
        promise(update == 0 || update == 5 + TLSRecord.overheadBytes, "a KeyUpdate of \(update) octets")
        let isSealed = room.withUnsafeMutableBytes { reader.seal($0.baseAddress! + update, 1) }
        promise(isSealed, "the reader cannot answer")
        guard let peer = self.session(isServer: !self.isServer) else { return }
        room.withUnsafeMutableBytes { room in
            let first = UnsafeMutableRawBufferPointer(rebasing: room[..<update])
            if update > 0 { promise(peer.open(first) == .nothing(bytes: update), "the KeyUpdate is none") }
            let second = UnsafeMutableRawBufferPointer(rebasing: room[update...])
            promise(peer.open(second) == .data(bytes: 1 + TLSRecord.overheadBytes, text: 1), "the answer is unreadable")
        }
    }

    func isFaithful(_ outcome: Outcome) -> Bool {
        self.isHonest ? outcome.text == self.data && outcome.end == .wantsMore : outcome.text.starts(with: self.data)
    }
}
