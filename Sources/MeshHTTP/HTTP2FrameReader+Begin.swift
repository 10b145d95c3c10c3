// A frame header has arrived: is the frame allowed here, in this size, and what happens with its payload?

extension HTTP2FrameReader {
    mutating func began() throws(HTTP2ConnectionError) -> HTTP2Event? {
        let header = self.header
        guard header.length <= self.limits.frameBytesMax else {
            throw .frameTooLarge(header.type, bytes: header.length, bytesMax: self.limits.frameBytesMax)
        }
        if !self.seenSettings {
            guard header.type == .settings, !header.flags.contains(.ack) else {
                throw .firstFrameNotSettings(header.type)
            }
            self.seenSettings = true
        }
        if !self.openBlock.isConnection, header.type != .continuation || header.stream != self.openBlock {
            throw .headerBlockInterrupted(self.openBlock, by: header.type)
        }
        self.remaining = header.length
        self.padding = 0
        self.uncharged = 0
        switch header.type {
        case .data: return try self.beganData()
        case .headers: return try self.beganHeaders()
        case .continuation: return try self.beganContinuation()
        case .priority:
            guard !header.stream.isConnection else { throw .wrongStream(header.type, header.stream) }
            self.skipPayload()
            return header.length == 5
                ? .priorityIgnored(stream: header.stream)
                : .streamError(HTTP2StreamError(header.stream, .wrongPriorityLength(header.length)))
        case .resetStream:
            try self.requireStream()
            return try self.expectControl(header.length == 4)
        case .settings:
            try self.requireConnection()
            guard header.length.isMultiple(of: 6), header.length == 0 || !header.flags.contains(.ack) else {
                throw .wrongLength(header.type, bytes: header.length)
            }
            guard header.length <= 6 * Self.settingsPerFrameMax else {
                throw .tooManySettings(settingsMax: Self.settingsPerFrameMax)
            }
            guard header.length > 0 else {
                self.state = .frameHeader
                return header.flags.contains(.ack) ? .settingsAck : .settings([])
            }
            return try self.expectControl(true)
        case .pushPromise: throw .pushPromise
        case .ping:
            try self.requireConnection()
            return try self.expectControl(header.length == 8)
        case .goAway:
            try self.requireConnection()
            return try self.expectControl(header.length >= 8)
        case .windowUpdate:
            if !header.stream.isConnection { try self.requireStream() }
            return try self.expectControl(header.length == 4)
        default:
            self.skipPayload()
            return .unknownIgnored(header.type)
        }
    }

    /// Nobody pushes, so streams with even numbers are idle for ever, and nothing is legal on an idle stream.
    func requireStream() throws(HTTP2ConnectionError) {
        guard self.header.stream.isClientInitiated else { throw .wrongStream(self.header.type, self.header.stream) }
    }

    func requireConnection() throws(HTTP2ConnectionError) {
        guard self.header.stream.isConnection else { throw .wrongStream(self.header.type, self.header.stream) }
    }

    mutating func expectControl(_ lengthIsRight: Bool) throws(HTTP2ConnectionError) -> HTTP2Event? {
        guard lengthIsRight else { throw .wrongLength(self.header.type, bytes: self.header.length) }
        self.state = .control(min(self.header.length, Self.scratchBytes))
        return nil
    }

    mutating func skipPayload() {
        self.state = self.remaining == 0 ? .frameHeader : .skip
    }

    mutating func beganData() throws(HTTP2ConnectionError) -> HTTP2Event? {
        try self.requireStream()
        if self.header.flags.contains(.padded) {
            guard self.header.length >= 1 else { throw .wrongLength(.data, bytes: 0) }
            self.state = .prefix(1)
            return nil
        }
        guard self.remaining > 0 else {
            self.state = .frameHeader
            return .data(
                stream: self.header.stream, bytes: UnsafeRawBufferPointer(start: nil, count: 0), flowControlled: 0,
                endStream: self.header.flags.contains(.endStream))
        }
        self.state = .data
        return nil
    }

    mutating func beganHeaders() throws(HTTP2ConnectionError) -> HTTP2Event? {
        try self.requireStream()
        let prefix =
            (self.header.flags.contains(.padded) ? 1 : 0) + (self.header.flags.contains(.priority) ? 5 : 0)
        guard self.header.length >= prefix else { throw .wrongLength(.headers, bytes: self.header.length) }
        self.openBlock = self.header.stream
        self.blockEndsStream = self.header.flags.contains(.endStream)
        self.blockBytes = 0
        self.continuations = 0
        self.blocksBegun += 1
        try self.countBlock()
        if prefix > 0 {
            self.state = .prefix(prefix)
            return nil
        }
        return self.beganFragment()
    }

    mutating func beganContinuation() throws(HTTP2ConnectionError) -> HTTP2Event? {
        try self.requireStream()
        guard !self.openBlock.isConnection else { throw .continuationWithoutHeaders(self.header.stream) }
        self.continuations += 1
        guard self.continuations <= self.limits.continuationFramesMax else {
            throw .tooManyContinuations(self.openBlock, framesMax: self.limits.continuationFramesMax)
        }
        try self.countBlock()
        return self.beganFragment()
    }

    mutating func countBlock() throws(HTTP2ConnectionError) {
        self.blockBytes += self.header.length
        guard self.blockBytes <= self.limits.headerBlockBytesMax else {
            throw .headerBlockTooLarge(self.openBlock, bytesMax: self.limits.headerBlockBytesMax)
        }
    }

    mutating func beganFragment() -> HTTP2Event? {
        guard self.remaining == 0 else {
            // Trusts the frame's length only as far as countBlock() did.
            self.block.reserveCapacity(self.block.count + self.remaining)
            self.state = .fragment
            return nil
        }
        return self.fragmentEnded()
    }
}
