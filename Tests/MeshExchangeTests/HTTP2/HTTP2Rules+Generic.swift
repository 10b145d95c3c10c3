import MeshHTTP

// What every server must take: each frame, each kind of header representation.

let genericRules: [HTTP2Rule] = [
    .init("generic 1/1", "client connection preface", .served([1])) { $0.get(1) },
    .init("generic 2/1", "PRIORITY on an idle stream", .served([1])) {
        $0.send(.priority, [], 1, join(word(0), [255]))
        $0.get(1)
    },
    .init("generic 2/2", "WINDOW_UPDATE on a half-closed (remote) stream", .served([1])) {
        $0.get(1)
        $0.peer.window(1, 100)
    },
    .init("generic 2/3", "PRIORITY on a half-closed (remote) stream", .served([1])) {
        $0.get(1)
        $0.send(.priority, [], 1, join(word(0), [255]))
    },
    .init("generic 2/4", "RST_STREAM on a half-closed (remote) stream", .ignored) {
        $0.get(1)
        $0.peer.reset(1)
    },
    .init("generic 2/5", "PRIORITY on a closed stream", .served([1])) {
        $0.get(1)
        $0.answer()
        $0.send(.priority, [], 1, join(word(0), [255]))
    },
    .init("generic 3.1/1", "a DATA frame", .served([1])) {
        $0.post(1)
        $0.peer.data(1, "test", end: true)
    },
    .init("generic 3.1/2", "multiple DATA frames", .served([1])) {
        $0.post(1)
        $0.peer.data(1, "test")
        $0.peer.data(1, "test", end: true)
    },
    .init("generic 3.1/3", "a DATA frame with padding", .served([1])) {
        $0.post(1)
        $0.send(.data, [.padded, .endStream], 1, [6] + Array("test".utf8) + [0, 0, 0, 0, 0, 0])
    },
    .init("generic 3.2/1", "a HEADERS frame", .served([1])) { $0.get(1) },
    .init("generic 3.2/2", "a HEADERS frame with padding", .served([1])) {
        $0.send(.headers, [.endHeaders, .endStream, .padded], 1, join([3], getBlock, [0, 0, 0]))
    },
    .init("generic 3.2/3", "a HEADERS frame with priority", .served([1])) {
        $0.send(.headers, [.endHeaders, .endStream, .priority], 1, join(word(0), [255], getBlock))
    },
    .init("generic 3.3/1", "a PRIORITY frame with priority 1", .served([1])) {
        $0.send(.priority, [], 1, join(word(0), [0]))
        $0.get(1)
    },
    .init("generic 3.3/2", "a PRIORITY frame with priority 256", .served([1])) {
        $0.send(.priority, [], 1, join(word(0), [255]))
        $0.get(1)
    },
    .init("generic 3.3/3", "a PRIORITY frame with a stream dependency", .served([1])) {
        $0.send(.priority, [], 1, join(word(5), [255]))
        $0.get(1)
    },
    .init("generic 3.3/4", "a PRIORITY frame with exclusive", .served([1])) {
        $0.send(.priority, [], 1, join(word(0x8000_0000 | 5), [255]))
        $0.get(1)
    },
    .init("generic 3.3/5", "a PRIORITY frame for an idle stream, then HEADERS for a lower one", .served([3])) {
        $0.send(.priority, [], 5, join(word(0), [255]))
        $0.get(3)
    },
    .init("generic 3.4/1", "a RST_STREAM frame", .ignored) {
        $0.post(1)
        $0.peer.reset(1)
    },
    .init("generic 3.5/1", "a SETTINGS frame", .heard(.settingsAck)) {
        $0.peer.settings([HTTP2Setting(.maxConcurrentStreams, 100)])
    },
    .init("generic 3.7/1", "a PING frame", .heard(.ping(0x6832_7370_6563_0000, ack: true))) {
        $0.send(.ping, [], 0, join(word(0x6832_7370), word(0x6563_0000)))
    },
    .init("generic 3.8/1", "a GOAWAY frame", .ignored) { $0.send(.goAway, [], 0, join(word(0), word(0))) },
    .init("generic 3.9/1", "a WINDOW_UPDATE frame with stream 0", .ignored) { $0.peer.window(0, 1) },
    .init("generic 3.9/2", "a WINDOW_UPDATE frame with stream 1", .served([1])) {
        $0.post(1)
        $0.peer.window(1, 1)
        $0.peer.data(1, "", end: true)
    },
    .init("generic 3.10/1", "a CONTINUATION frame", .served([1])) {
        $0.send(.headers, .endStream, 1, Array(getBlock[..<7]))
        $0.send(.continuation, .endHeaders, 1, Array(getBlock[7...]))
    },
    .init("generic 3.10/2", "multiple CONTINUATION frames", .served([1])) {
        $0.send(.headers, .endStream, 1, Array(getBlock[..<7]))
        $0.send(.continuation, [], 1, Array(getBlock[7..<9]))
        $0.send(.continuation, .endHeaders, 1, Array(getBlock[9...]))
    },
    .init("generic 4/1", "a GET request", .served([1])) { $0.get(1) },
    .init("generic 4/2", "a HEAD request", .served([1])) {
        $0.headOnly = 1
        $0.peer.headers(1, [(":method", "HEAD")] + sampleGet.dropFirst())
        $0.waypoint.answerAll("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        $0.peer.listen()
    },
    .init("generic 4/3", "a POST request", .served([1])) {
        $0.post(1)
        $0.peer.data(1, "test", end: true)
    },
    .init("generic 4/4", "a POST request with trailers", .served([1])) {
        $0.post(1, [("trailer", "x-test")])
        $0.peer.data(1, "test")
        $0.peer.headers(1, [("x-test", "ok")])
    },
    represented(1, "indexed", []),
    represented(2, "literal with incremental indexing, indexed name", join([0x40 | 58], literal("test"))),
    represented(3, "the same with Huffman coding", [0x40 | 58, 0x83, 0x49, 0x50, 0x9F]),
    represented(4, "literal with incremental indexing, new name", join([0x40], literal("x-test"), literal("test"))),
    represented(
        5, "the same with Huffman coding", [0x40, 0x85, 0xF2, 0xB2, 0x4A, 0x84, 0xFF, 0x83, 0x49, 0x50, 0x9F]),
    represented(6, "literal without indexing, indexed name", join([0x0F, 58 - 15], literal("test"))),
    represented(7, "the same with Huffman coding", [0x0F, 58 - 15, 0x83, 0x49, 0x50, 0x9F]),
    represented(8, "literal without indexing, new name", join([0x00], literal("x-test"), literal("test"))),
    represented(
        9, "the same with Huffman coding", [0x00, 0x85, 0xF2, 0xB2, 0x4A, 0x84, 0xFF, 0x83, 0x49, 0x50, 0x9F]),
    represented(10, "literal never indexed, indexed name", join([0x1F, 58 - 15], literal("test"))),
    represented(11, "the same with Huffman coding", [0x1F, 58 - 15, 0x83, 0x49, 0x50, 0x9F]),
    represented(12, "literal never indexed, new name", join([0x10], literal("x-test"), literal("test"))),
    represented(
        13, "the same with Huffman coding", [0x10, 0x85, 0xF2, 0xB2, 0x4A, 0x84, 0xFF, 0x83, 0x49, 0x50, 0x9F]),
    .init("generic 5/14", "dynamic table size update", .served([1])) {
        $0.send(.headers, [.endHeaders, .endStream], 1, join([0x3F, 0xE1, 0x01], getBlock))
    },
    .init("generic 5/15", "multiple dynamic table size updates", .served([1])) {
        $0.send(.headers, [.endHeaders, .endStream], 1, join([0x20, 0x3F, 0xE1, 0x01], getBlock))
    },
]

/// A request with one field more, in one representation.
private func represented(_ number: Int, _ name: String, _ field: [UInt8]) -> HTTP2Rule {
    .init("generic 5/\(number)", "\(name) field", .served([1])) {
        $0.send(.headers, [.endHeaders, .endStream], 1, [0x82, 0x86, 0x84, 0x01] + literal("cart") + field)
    }
}
