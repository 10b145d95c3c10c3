import MeshHTTP

// Sections 3 to 5: starting, frames as such, streams.

let connectionRules: [HTTP2Rule] = [
    .init("http2 3.5/1", "client connection preface", .served([1])) {
        $0.peer.begin()
        $0.get(1)
    },
    .init("http2 3.5/2", "invalid connection preface", .closed) {
        $0.peer.channel.deliver("INVALID CONNECTION PREFACE\r\n\r\n")
        _ = $0.peer.channel.take()
    },
    .init("http2 4.1/1", "a frame with unknown type", .heard(.ping(0, ack: true))) {
        $0.send(HTTP2FrameType(rawValue: 0xFF), [], 0, [1, 2, 3])
        $0.send(.ping, [], 0, join(word(0), word(0)))
    },
    .init("http2 4.1/2", "a frame with an undefined flag", .heard(.ping(0, ack: true))) {
        $0.send(.ping, HTTP2FrameFlags(rawValue: 0x16), 0, join(word(0), word(0)))
    },
    .init("http2 4.1/3", "a frame with the reserved bit", .heard(.ping(0, ack: true))) {
        var bytes = frame(.ping, [], 0, join(word(0), word(0)))
        bytes[5] |= 0x80
        $0.peer.send(bytes)
    },
    .init("http2 4.2/1", "a DATA frame with 2^14 octets", .served([1])) {
        $0.post(1)
        $0.send(.data, .endStream, 1, Array(repeating: 65, count: 1 << 14))
    },
    .init("http2 4.2/2", "a DATA frame larger than MAX_FRAME_SIZE", .goAway(.frameSizeError)) {
        $0.post(1)
        $0.send(.data, .endStream, 1, Array(repeating: 65, count: 1 << 14 + 1))
    },
    .init("http2 4.2/3", "a HEADERS frame larger than MAX_FRAME_SIZE", .goAway(.frameSizeError)) {
        $0.send(.headers, [.endHeaders, .endStream], 1, Array(repeating: 0, count: 1 << 14 + 1))
    },
    .init("http2 4.3/1", "an invalid header block fragment", .goAway(.compressionError)) {
        $0.send(.headers, [.endHeaders, .endStream], 1, [0x82, 0x86, 0x40])
    },
    .init("http2 4.3/2", "PRIORITY inside a header block", .goAway(.protocolError)) {
        $0.send(.headers, .endStream, 1, getBlock)
        $0.send(.priority, [], 1, join(word(0), [255]))
    },
    .init("http2 4.3/3", "HEADERS of another stream inside a header block", .goAway(.protocolError)) {
        $0.send(.headers, .endStream, 1, getBlock)
        $0.send(.headers, [.endHeaders, .endStream], 3, getBlock)
    },
    .init("http2 5.3.1/1", "HEADERS that depends on itself; priorities mean nothing since RFC 9113", .served([1])) {
        $0.send(.headers, [.endHeaders, .endStream, .priority], 1, join(word(1), [255], getBlock))
    },
    .init("http2 5.3.1/2", "PRIORITY that depends on itself; priorities mean nothing since RFC 9113", .ignored) {
        $0.send(.priority, [], 3, join(word(3), [255]))
    },
    .init("http2 5.4.1/1", "an invalid PING closes the connection", .goAway(.protocolError)) {
        $0.send(.ping, [], 3, join(word(0), word(0)))
    },
    .init("http2 5.4.1/2", "and is told with GOAWAY", .goAway(.protocolError)) {
        $0.send(.ping, [], 3, join(word(0), word(0)))
    },
    .init("http2 5.5/1", "an unknown extension frame", .heard(.ping(0, ack: true))) {
        $0.send(HTTP2FrameType(rawValue: 0x16), [], 0, [0, 0, 0, 0])
        $0.send(.ping, [], 0, join(word(0), word(0)))
    },
    .init("http2 5.5/2", "an unknown extension frame inside a header block", .goAway(.protocolError)) {
        $0.send(.headers, .endStream, 1, getBlock)
        $0.send(HTTP2FrameType(rawValue: 0x16), [], 0, [0, 0, 0, 0])
    },
]

let streamRules: [HTTP2Rule] = [
    .init("http2 5.1/1", "idle: DATA", .goAway(.protocolError)) { $0.peer.data(1, "test", end: true) },
    .init("http2 5.1/2", "idle: RST_STREAM", .goAway(.protocolError)) { $0.peer.reset(1) },
    .init("http2 5.1/3", "idle: WINDOW_UPDATE", .goAway(.protocolError)) { $0.peer.window(1, 100) },
    .init("http2 5.1/4", "idle: CONTINUATION", .goAway(.protocolError)) {
        $0.send(.continuation, .endHeaders, 1, getBlock)
    },
    .init("http2 5.1/5", "half-closed (remote): DATA", .reset(1, .streamClosed)) {
        $0.get(1)
        $0.peer.data(1, "test", end: true)
    },
    .init("http2 5.1/6", "half-closed (remote): HEADERS", .reset(1, .streamClosed)) {
        $0.get(1)
        $0.get(1)
    },
    .init("http2 5.1/7", "half-closed (remote): CONTINUATION", .goAway(.protocolError)) {
        $0.get(1)
        $0.send(.continuation, .endHeaders, 1, getBlock)
    },
    .init("http2 5.1/8", "closed: DATA after RST_STREAM", .reset(1, .streamClosed)) {
        $0.post(1)
        $0.peer.reset(1)
        $0.peer.data(1, "test")
    },
    .init("http2 5.1/9", "closed: HEADERS after RST_STREAM", .reset(1, .streamClosed)) {
        $0.post(1)
        $0.peer.reset(1)
        $0.get(1)
    },
    .init("http2 5.1/10", "closed: CONTINUATION after RST_STREAM", .goAway(.protocolError)) {
        $0.post(1)
        $0.peer.reset(1)
        $0.send(.continuation, .endHeaders, 1, getBlock)
    },
    .init("http2 5.1/11", "closed: DATA", .goAway(.streamClosed)) {
        $0.get(1)
        $0.answer()
        $0.peer.data(1, "test")
    },
    .init("http2 5.1/12", "closed: HEADERS", .goAway(.streamClosed)) {
        $0.get(1)
        $0.answer()
        $0.get(1)
    },
    .init("http2 5.1/13", "closed: CONTINUATION", .goAway(.protocolError)) {
        $0.get(1)
        $0.answer()
        $0.send(.continuation, .endHeaders, 1, getBlock)
    },
    .init("http2 5.1.1/1", "an even stream identifier", .goAway(.protocolError)) { $0.get(2) },
    .init("http2 5.1.1/2", "a stream identifier smaller than before", .goAway(.protocolError)) {
        $0.get(5)
        $0.get(3)
    },
    .init("http2 5.1.2/1", "more streams than MAX_CONCURRENT_STREAMS", .reset(201, .refusedStream)) { script in
        for stream in 0..<101 { script.get(UInt32(2 * stream + 1)) }
        script.answer()
    },
]
