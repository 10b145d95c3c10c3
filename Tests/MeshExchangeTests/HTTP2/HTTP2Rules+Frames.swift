import MeshHTTP

// Section 6, frame by frame, and section 7.

let frameRules: [HTTP2Rule] = [
    .init("http2 6.1/1", "DATA with stream 0", .goAway(.protocolError)) { $0.peer.data(0, "test", end: true) },
    .init("http2 6.1/2", "DATA on a stream that is neither open nor half-closed (local)", .reset(1, .streamClosed)) {
        $0.get(1)
        $0.peer.data(1, "test", end: true)
    },
    .init("http2 6.1/3", "DATA with an invalid pad length", .goAway(.protocolError)) {
        $0.post(1)
        $0.send(.data, [.padded, .endStream], 1, [6] + Array("test".utf8))
    },
    .init("http2 6.2/1", "HEADERS without END_HEADERS, and PRIORITY", .goAway(.protocolError)) {
        $0.send(.headers, .endStream, 1, getBlock)
        $0.send(.priority, [], 1, join(word(0), [255]))
    },
    .init("http2 6.2/2", "HEADERS of another stream before END_HEADERS", .goAway(.protocolError)) {
        $0.send(.headers, .endStream, 1, getBlock)
        $0.send(.headers, [.endHeaders, .endStream], 3, getBlock)
    },
    .init("http2 6.2/3", "HEADERS with stream 0", .goAway(.protocolError)) { $0.get(0) },
    .init("http2 6.2/4", "HEADERS with an invalid pad length", .goAway(.protocolError)) {
        $0.send(.headers, [.endHeaders, .endStream, .padded], 1, join([200], getBlock))
    },
    .init("http2 6.3/1", "PRIORITY with stream 0", .goAway(.protocolError)) {
        $0.send(.priority, [], 0, join(word(0), [255]))
    },
    .init("http2 6.3/2", "PRIORITY with a length other than 5", .reset(1, .frameSizeError)) {
        $0.get(1)
        $0.send(.priority, [], 1, word(0x8000_0001))
    },
    .init("http2 6.4/1", "RST_STREAM with stream 0", .goAway(.protocolError)) { $0.peer.reset(0) },
    .init("http2 6.4/2", "RST_STREAM on an idle stream", .goAway(.protocolError)) { $0.peer.reset(1) },
    .init("http2 6.4/3", "RST_STREAM with a length other than 4", .goAway(.frameSizeError)) {
        $0.post(1)
        $0.send(.resetStream, [], 1, [0, 0, 0])
    },
    .init("http2 6.7/1", "PING", .heard(.ping(7, ack: true))) { $0.send(.ping, [], 0, join(word(0), word(7))) },
    .init("http2 6.7/2", "PING with ACK is not answered", .ignored) { $0.send(.ping, .ack, 0, join(word(0), word(7))) },
    .init("http2 6.7/3", "PING with a stream", .goAway(.protocolError)) {
        $0.send(.ping, [], 1, join(word(0), word(7)))
    },
    .init("http2 6.7/4", "PING with a length other than 8", .goAway(.frameSizeError)) {
        $0.send(.ping, [], 0, word(0))
    },
    .init("http2 6.8/1", "GOAWAY with a stream", .goAway(.protocolError)) {
        $0.send(.goAway, [], 1, join(word(0), word(0)))
    },
    .init("http2 6.9/1", "WINDOW_UPDATE of 0", .goAway(.protocolError)) { $0.peer.window(0, 0) },
    .init("http2 6.9/2", "WINDOW_UPDATE of 0 on a stream", .reset(1, .protocolError)) {
        $0.get(1)
        $0.peer.window(1, 0)
    },
    .init("http2 6.9/3", "WINDOW_UPDATE with a length other than 4", .goAway(.frameSizeError)) {
        $0.send(.windowUpdate, [], 0, [0, 0, 1])
    },
    .init("http2 6.9.1/1", "an initial window of 1, and HEADERS", .heard(.data(1, Array("h".utf8), end: false))) {
        $0.peer.settings([HTTP2Setting(.initialWindowSize, 1)])
        $0.get(1)
        $0.answer()
    },
    .init("http2 6.9.1/2", "a connection window beyond 2^31-1", .goAway(.flowControlError)) {
        $0.peer.window(0, 0x7FFF_FFFF)
    },
    .init("http2 6.9.1/3", "a stream's window beyond 2^31-1", .reset(1, .flowControlError)) {
        $0.get(1)
        $0.peer.window(1, 0x7FFF_FFFF)
    },
    .init(
        "http2 6.9.2/1", "INITIAL_WINDOW_SIZE changed after HEADERS", .heard(.data(1, Array("h".utf8), end: false))
    ) {
        $0.peer.settings([HTTP2Setting(.initialWindowSize, 0)])
        $0.get(1)
        $0.answer()
        $0.peer.settings([HTTP2Setting(.initialWindowSize, 1)])
    },
    .init("http2 6.9.2/2", "a negative window", .heard(.data(1, Array("l".utf8), end: false))) {
        $0.peer.settings([HTTP2Setting(.initialWindowSize, 3)])
        $0.get(1)
        $0.answer()
        $0.peer.settings([HTTP2Setting(.initialWindowSize, 2)])
        $0.peer.window(1, 2)
    },
    .init("http2 6.9.2/3", "INITIAL_WINDOW_SIZE above the maximum", .goAway(.flowControlError)) {
        $0.send(.settings, [], 0, setting(.initialWindowSize, 0x8000_0000))
    },
    .init("http2 6.10/1", "multiple CONTINUATIONs behind HEADERS", .served([1])) {
        $0.send(.headers, .endStream, 1, Array(getBlock[..<3]))
        $0.send(.continuation, [], 1, Array(getBlock[3..<12]))
        $0.send(.continuation, .endHeaders, 1, Array(getBlock[12...]))
    },
    .init("http2 6.10/2", "CONTINUATION followed by another frame", .goAway(.protocolError)) {
        $0.send(.headers, .endStream, 1, Array(getBlock[..<3]))
        $0.send(.continuation, [], 1, Array(getBlock[3...]))
        $0.peer.data(1, "test", end: true)
    },
    .init("http2 6.10/3", "CONTINUATION with stream 0", .goAway(.protocolError)) {
        $0.send(.headers, .endStream, 1, Array(getBlock[..<3]))
        $0.send(.continuation, .endHeaders, 0, Array(getBlock[3...]))
    },
    .init("http2 6.10/4", "CONTINUATION behind HEADERS with END_HEADERS", .goAway(.protocolError)) {
        $0.post(1)
        $0.send(.continuation, .endHeaders, 1, getBlock)
    },
    .init("http2 6.10/5", "CONTINUATION behind CONTINUATION with END_HEADERS", .goAway(.protocolError)) {
        $0.send(.headers, [], 1, Array(postBlock[..<3]))
        $0.send(.continuation, .endHeaders, 1, Array(postBlock[3...]))
        $0.send(.continuation, .endHeaders, 1, [])
    },
    .init("http2 6.10/6", "CONTINUATION behind DATA", .goAway(.protocolError)) {
        $0.post(1)
        $0.peer.data(1, "test")
        $0.send(.continuation, .endHeaders, 1, getBlock)
    },
    .init("http2 7/1", "GOAWAY with an unknown error code", .heard(.ping(0, ack: true))) {
        $0.send(.goAway, [], 0, join(word(0), word(0xFF)))
        $0.send(.ping, [], 0, join(word(0), word(0)))
    },
    .init("http2 7/2", "RST_STREAM with an unknown error code", .heard(.ping(0, ack: true))) {
        $0.post(1)
        $0.peer.reset(1, HTTP2ErrorCode(rawValue: 0xFF))
        $0.send(.ping, [], 0, join(word(0), word(0)))
    },
]

let settingsRules: [HTTP2Rule] = [
    .init("http2 6.5/1", "SETTINGS with ACK and payload", .goAway(.frameSizeError)) {
        $0.send(.settings, .ack, 0, setting(.maxConcurrentStreams, 1))
    },
    .init("http2 6.5/2", "SETTINGS with a stream", .goAway(.protocolError)) {
        $0.send(.settings, [], 1, setting(.maxConcurrentStreams, 1))
    },
    .init("http2 6.5/3", "SETTINGS with a length that is no multiple of 6", .goAway(.frameSizeError)) {
        $0.send(.settings, [], 0, [0, 3, 0])
    },
    .init("http2 6.5.2/1", "ENABLE_PUSH other than 0 or 1", .goAway(.protocolError)) {
        $0.send(.settings, [], 0, setting(.enablePush, 2))
    },
    .init("http2 6.5.2/2", "INITIAL_WINDOW_SIZE above the maximum", .goAway(.flowControlError)) {
        $0.send(.settings, [], 0, setting(.initialWindowSize, 0x8000_0000))
    },
    .init("http2 6.5.2/3", "MAX_FRAME_SIZE below the initial value", .goAway(.protocolError)) {
        $0.send(.settings, [], 0, setting(.maxFrameSize, 16_383))
    },
    .init("http2 6.5.2/4", "MAX_FRAME_SIZE above the maximum", .goAway(.protocolError)) {
        $0.send(.settings, [], 0, setting(.maxFrameSize, 1 << 24))
    },
    .init("http2 6.5.2/5", "an unknown setting", .heard(.settingsAck)) {
        $0.send(.settings, [], 0, setting(HTTP2Setting.ID(rawValue: 0xFF), 1))
    },
    .init(
        "http2 6.5.3/1", "INITIAL_WINDOW_SIZE several times in one frame", .heard(.data(1, Array("h".utf8), end: false))
    ) {
        $0.send(.settings, [], 0, setting(.initialWindowSize, 100) + setting(.initialWindowSize, 1))
        $0.get(1)
        $0.answer()
    },
    .init("http2 6.5.3/2", "SETTINGS is acknowledged", .heard(.settingsAck)) {
        $0.send(.settings, [], 0, setting(.initialWindowSize, 100))
    },
]
