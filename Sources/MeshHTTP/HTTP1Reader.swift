/// The messages of one direction of an HTTP/1 connection (RFC 9112), without I/O.
///
///     head ─no body─▶ end
///     head ─length─▶ body ... ─▶ end
///     head ─chunked─▶ size ─▶ data ─▶ CR LF ─▶ size ... ─0─▶ trailers ─▶ end
///     head ─until close─▶ body ... ─closed()─▶ end
///
/// Bodies are handed out where they lie in the input; only a head or a line that the network cut in two is copied, and
/// not more of it than ``HTTP1Limits`` allows. After an error the connection is of no use.
package struct HTTP1Reader {
    /// What a response answers, as far as its framing depends on it.
    package enum Answered: Hashable, Sendable { case head, connect, other }

    private enum Part: Hashable {
        case head
        case body(left: UInt64)
        case chunkSize
        case chunkData(left: UInt64)
        case chunkDataEnd
        case trailers
        case untilClose
        case ending
        case tunnel
    }

    private let limits: HTTP1Limits
    private let isRequest: Bool
    private var part = Part.head
    /// The beginning of what is looked at as a whole: a head, a size line, trailers.
    private var begun: [UInt8] = []
    private var scanner = HTTP1LineScanner()
    private var extensionBytes = 0
    private var skippedEmptyLine = false
    private var answered = Answered.other
    private var trailers = HTTP2HeaderList()

    private init(isRequest: Bool, limits: HTTP1Limits) {
        self.isRequest = isRequest
        self.limits = limits
    }

    package static func requests(limits: HTTP1Limits = HTTP1Limits()) -> HTTP1Reader {
        HTTP1Reader(isRequest: true, limits: limits)
    }

    package static func responses(limits: HTTP1Limits = HTTP1Limits()) -> HTTP1Reader {
        HTTP1Reader(isRequest: false, limits: limits)
    }

    /// The next response answers such a request. To be said before its head is read.
    package mutating func expect(_ answered: Answered) { self.answered = answered }

    /// Between two messages, with nothing of the next one here.
    package var isIdle: Bool { self.part == .head && self.begun.isEmpty }
    /// What follows is not HTTP: the caller takes the input as it is.
    package var isTunnel: Bool { self.part == .tunnel }

    /// The next event of `input`, which loses what was used for it; nil when all of it is used up, or a tunnel begins.
    package mutating func next(_ input: inout UnsafeRawBufferPointer) throws(HTTP1Error) -> HTTP1Event? {
        while true {
            switch self.part {
            case .head:
                try self.skipEmptyLine(&input)
                guard let whole = try self.whole(&input, max: self.limits.headBytesMax, "the head") else { return nil }
                return .head(try self.read(head: whole))
            case .body(let left):
                guard let bytes = Self.take(left, of: &input) else { return nil }
                let rest = left - UInt64(bytes.count)
                self.part = rest == 0 ? .ending : .body(left: rest)
                return .body(bytes)
            case .untilClose:
                guard let bytes = Self.take(.max, of: &input) else { return nil }
                return .body(bytes)
            case .chunkSize:
                guard let size = try self.chunkSize(&input) else { return nil }
                self.part = size == 0 ? .trailers : .chunkData(left: size)
            case .chunkData(let left):
                guard let bytes = Self.take(left, of: &input) else { return nil }
                let rest = left - UInt64(bytes.count)
                self.part = rest == 0 ? .chunkDataEnd : .chunkData(left: rest)
                return .body(bytes)
            case .chunkDataEnd:
                guard try self.lineEnd(&input) else { return nil }
                self.part = .chunkSize
            case .trailers:
                guard let whole = try self.whole(&input, max: self.limits.trailerBytesMax, "trailers") else {
                    return nil
                }
                self.trailers = try self.read(trailers: whole)
                self.part = .ending
            case .ending:
                self.part = .head
                self.skippedEmptyLine = false
                self.extensionBytes = 0
                let trailers = self.trailers
                self.trailers = HTTP2HeaderList()
                return .end(trailers: trailers)
            case .tunnel: return nil
            }
        }
    }

    /// The connection ended. An event for a body that ends so.
    /// - Throws: in the middle of a message.
    package mutating func closed() throws(HTTP1Error) -> HTTP1Event? {
        if self.part == .untilClose {
            self.part = .head
            return .end(trailers: HTTP2HeaderList())
        }
        guard self.isIdle || self.isTunnel else { throw HTTP1Error(400, "the connection ended inside a message") }
        return nil
    }

    /// Asked right behind a piece of a body, with the input that is left: that was the last of it, and no trailers follow.
    /// False when that cannot be known yet.
    package func endsBodyBefore(_ rest: UnsafeRawBufferPointer) -> Bool {
        switch self.part {
        case .ending: true
        case .chunkDataEnd: rest.count >= Self.lastChunk.count && rest.starts(with: Self.lastChunk)
        default: false
        }
    }

    /// What nearly always ends a chunked body, from behind the data of the last chunk but one.
    private static let lastChunk = Array("\r\n0\r\n\r\n".utf8)

    // MARK: Pieces

    /// At least one byte, at most `count`; nil when there is none.
    private static func take(_ count: UInt64, of input: inout UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard !input.isEmpty else { return nil }
        let taken = Int(min(count, UInt64(input.count)))
        let bytes = UnsafeRawBufferPointer(rebasing: input[..<taken])
        input = UnsafeRawBufferPointer(rebasing: input[taken...])
        return bytes
    }

    /// One empty line before a request is borne: some old clients send it after a body (RFC 9112, 2.2).
    private mutating func skipEmptyLine(_ input: inout UnsafeRawBufferPointer) throws(HTTP1Error) {
        guard self.isRequest, !self.skippedEmptyLine else { return }
        if self.begun.isEmpty, input.count >= 2, input[0] == 0x0D, input[1] == 0x0A {
            _ = Self.take(2, of: &input)
            self.skippedEmptyLine = true
        } else if self.begun == [0x0D], input.first == 0x0A {
            _ = Self.take(1, of: &input)
            self.begun = []
            self.scanner = HTTP1LineScanner()
            self.skippedEmptyLine = true
        }
    }

    /// Everything up to the next empty line. What is returned is valid until the next call.
    private mutating func whole(
        _ input: inout UnsafeRawBufferPointer, max: Int, _ what: String
    ) throws(HTTP1Error) -> Whole? {
        if self.begun.isEmpty {
            if let end = try self.scanner.end(of: input) {
                guard end <= max else { throw HTTP1Error(431, "\(what): more than \(max) bytes") }
                self.scanner = HTTP1LineScanner()
                return .input(Self.take(UInt64(end), of: &input)!)
            }
            guard input.count <= max else { throw HTTP1Error(431, "\(what): more than \(max) bytes") }
            self.begun = Array(input)
            _ = Self.take(.max, of: &input)
            return nil
        }
        let had = self.begun.count
        self.begun.append(contentsOf: input.prefix(max + 1 - had))
        var scanner = self.scanner
        let end = try HTTP1Text.withBytes(self.begun) { (bytes) throws(HTTP1Error) in try scanner.end(of: bytes) }
        self.scanner = scanner
        guard let end else {
            guard self.begun.count <= max else { throw HTTP1Error(431, "\(what): more than \(max) bytes") }
            _ = Self.take(.max, of: &input)
            return nil
        }
        guard end <= max else { throw HTTP1Error(431, "\(what): more than \(max) bytes") }
        _ = Self.take(UInt64(end - had), of: &input)
        self.begun.removeLast(self.begun.count - end)
        self.scanner = HTTP1LineScanner()
        let copied = self.begun
        self.begun = []
        return .copied(copied)
    }

    private enum Whole {
        case input(UnsafeRawBufferPointer)
        case copied([UInt8])

        func withBytes<Result>(
            _ body: (UnsafeRawBufferPointer) throws(HTTP1Error) -> Result
        ) throws(HTTP1Error) -> Result {
            switch self {
            case .input(let bytes): return try body(bytes)
            case .copied(let bytes): return try HTTP1Text.withBytes(bytes, body)
            }
        }
    }

    private mutating func read(head whole: Whole) throws(HTTP1Error) -> HTTP1Head {
        let (answering, limits) = (self.isRequest ? nil : self.answered, self.limits)
        let head = try whole.withBytes { (bytes) throws(HTTP1Error) in
            try HTTP1HeadParser.parse(bytes, answering: answering, limits: limits)
        }
        switch head.framing {
        case .none: self.part = .ending
        case .length(let length): self.part = .body(left: length)
        case .chunked: self.part = .chunkSize
        case .untilClose: self.part = .untilClose
        case .tunnel: self.part = .tunnel
        }
        return head
    }

    private func read(trailers whole: Whole) throws(HTTP1Error) -> HTTP2HeaderList {
        let limits = self.limits
        let fields = try whole.withBytes { (bytes) throws(HTTP1Error) in
            var parser = HTTP1LineParser(bytes)
            return try parser.fields(max: limits.fieldsMax)
        }
        let forbidden: [StaticString] = ["content-length", "transfer-encoding", "host", "connection", "trailer", "te"]
        for index in 0..<fields.count {
            for name in forbidden where fields.hasName(index, name) {
                throw HTTP1Error(400, "\(name) among the trailers")
            }
        }
        return fields
    }

    // MARK: Chunks

    /// One line of hexadecimal digits, perhaps with extensions, which end here.
    private mutating func chunkSize(_ input: inout UnsafeRawBufferPointer) throws(HTTP1Error) -> UInt64? {
        while let octet = input.first {
            _ = Self.take(1, of: &input)
            self.begun.append(octet)
            if octet == 0x0A {
                let line = self.begun
                self.begun = []
                return try self.size(of: line)
            }
            guard self.begun.count < self.limits.chunkLineBytesMax else {
                throw HTTP1Error(400, "a chunk's size of more than \(self.limits.chunkLineBytesMax) bytes")
            }
        }
        return nil
    }

    private mutating func size(of line: [UInt8]) throws(HTTP1Error) -> UInt64 {
        guard line.count >= 3, line[line.count - 2] == 0x0D else { throw HTTP1Error(400, "a line ends with LF alone") }
        let text = line.dropLast(2)
        let digits = text.prefix { HTTP1Octets.isToken[Int($0)] }
        var size: UInt64 = 0
        guard !digits.isEmpty, digits.count <= 15 else { throw HTTP1Error(400, "a chunk without a size") }
        for digit in digits {
            guard let value = Self.hexadecimal(digit) else { throw HTTP1Error(400, "a chunk without a size") }
            size = size << 4 | UInt64(value)
        }
        let rest = text.dropFirst(digits.count)
        if !rest.isEmpty {
            let start = rest.drop { $0 == 0x20 || $0 == 0x09 }
            guard start.first == 0x3B, rest.allSatisfy({ HTTP1Octets.isText[Int($0)] }) else {
                throw HTTP1Error(400, "something other than an extension behind a chunk's size")
            }
            self.extensionBytes += rest.count
            guard self.extensionBytes <= self.limits.extensionBytesMax else {
                throw HTTP1Error(400, "chunk extensions of more than \(self.limits.extensionBytesMax) bytes")
            }
        }
        return size
    }

    private static func hexadecimal(_ octet: UInt8) -> UInt8? {
        switch octet {
        case 0x30...0x39: octet - 0x30
        case 0x41...0x46: octet - 0x41 + 10
        case 0x61...0x66: octet - 0x61 + 10
        default: nil
        }
    }

    /// CR LF behind a chunk's data.
    private mutating func lineEnd(_ input: inout UnsafeRawBufferPointer) throws(HTTP1Error) -> Bool {
        while let octet = input.first {
            guard octet == (self.begun.isEmpty ? 0x0D : 0x0A) else {
                throw HTTP1Error(400, "a chunk longer than its size")
            }
            _ = Self.take(1, of: &input)
            if octet == 0x0A {
                self.begun = []
                return true
            }
            self.begun = [octet]
        }
        return false
    }
}
