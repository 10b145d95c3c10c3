import MeshHTTP

// Section 8, and RFC 7541.

let messageRules: [HTTP2Rule] = [
    .init("http2 8.1/1", "a second HEADERS frame without END_STREAM", .reset(1, .protocolError)) {
        $0.post(1)
        $0.peer.data(1, "test")
        $0.peer.headers(1, [("x-test", "ok")], end: false)
    },
    malformed("8.1.2/1", "a field name in upper case", adding([("X-TEST", "ok")])),
    malformed("8.1.2.1/1", "an unknown pseudo-header", adding([(":test", "ok")])),
    malformed("8.1.2.1/2", "a pseudo-header of responses", adding([(":status", "200")])),
    .init("http2 8.1.2.1/3", "a pseudo-header in trailers", .reset(1, .protocolError)) {
        $0.post(1)
        $0.peer.data(1, "test")
        $0.peer.headers(1, [(":method", "200")])
    },
    malformed("8.1.2.1/4", "a pseudo-header behind a field", [("x-test", "ok")] + sampleGet),
    malformed("8.1.2.2/1", "a field of the connection", adding([("connection", "keep-alive")])),
    malformed("8.1.2.2/2", "TE other than trailers", adding([("te", "trailers, deflate")])),
    malformed(
        "8.1.2.3/1", "an empty :path", [(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "cart")]),
    malformed("8.1.2.3/2", "no :method", sampleGet.filter { $0.0 != ":method" }),
    malformed("8.1.2.3/3", "no :scheme", sampleGet.filter { $0.0 != ":scheme" }),
    malformed("8.1.2.3/4", "no :path", sampleGet.filter { $0.0 != ":path" }),
    malformed("8.1.2.3/5", ":method twice", adding([(":method", "GET")])),
    malformed("8.1.2.3/6", ":scheme twice", adding([(":scheme", "http")])),
    malformed("8.1.2.3/7", ":path twice", adding([(":path", "/")])),
    .init("http2 8.1.2.6/1", "content-length other than the DATA's", .reset(1, .protocolError)) {
        $0.post(1, [("content-length", "1")])
        $0.peer.data(1, "test", end: true)
    },
    .init("http2 8.1.2.6/2", "content-length other than the sum of DATA", .reset(1, .protocolError)) {
        $0.post(1, [("content-length", "1")])
        $0.peer.data(1, "t")
        $0.peer.data(1, "est", end: true)
    },
    .init("http2 8.2/1", "PUSH_PROMISE", .goAway(.protocolError)) {
        $0.get(1)
        $0.send(.pushPromise, .endHeaders, 1, join(word(2), getBlock))
    },
]

/// A request that must be reset and never asked of an endpoint.
private func malformed(_ number: String, _ name: String, _ fields: [(String, String)]) -> HTTP2Rule {
    .init("http2 \(number)", name, .reset(1, .protocolError)) { $0.peer.headers(1, fields) }
}

let compressionRules: [HTTP2Rule] = [
    uncompressible("2.3.3/1", "an index beyond the tables", join(getBlock, [0xC6])),
    uncompressible("2.3.3/2", "the same of a literal's name", join(getBlock, join([0x7F, 0x07], literal("x")))),
    uncompressible("4.2/1", "a table size update at the end of a block", join(getBlock, [0x3F, 0x01])),
    uncompressible(
        "5.2/1", "Huffman padding of more than 7 bits",
        join(getBlock, [0x00, 0x85, 0xF2, 0xB2, 0x4A, 0x84, 0xFF, 0x84, 0x49, 0x50, 0x9F, 0xFF])),
    uncompressible(
        "5.2/2", "Huffman padding of zeros",
        join(getBlock, [0x00, 0x85, 0xF2, 0xB2, 0x4A, 0x84, 0xFF, 0x83, 0x49, 0x50, 0x90])),
    uncompressible(
        "5.2/3", "a Huffman code of the end of the string",
        join(getBlock, [0x00, 0x85, 0xF2, 0xB2, 0x4A, 0x84, 0xFF, 0x86, 0x49, 0x7F, 0xFF, 0xFF, 0xFF, 0x47])),
    uncompressible("6.1/1", "index 0", join(getBlock, [0x80])),
    uncompressible("6.3/1", "a table size above the maximum", join([0x3F, 0xE1, 0xFF, 0x03], getBlock)),
]

private func uncompressible(_ number: String, _ name: String, _ block: [UInt8]) -> HTTP2Rule {
    .init("hpack \(number)", name, .goAway(.compressionError)) {
        $0.send(.headers, [.endHeaders, .endStream], 1, block)
    }
}
