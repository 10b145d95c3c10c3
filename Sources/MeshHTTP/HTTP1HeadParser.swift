/// From the lines of a head to what it means: start line, fields, framing, connection.
enum HTTP1HeadParser {
    /// What is known of the request that a response answers; nil for a request.
    typealias Answered = HTTP1Reader.Answered

    static func parse(
        _ bytes: UnsafeRawBufferPointer, answering: Answered?, limits: HTTP1Limits
    ) throws(HTTP1Error) -> HTTP1Head {
        var parser = HTTP1LineParser(bytes)
        guard let line = parser.line() else { throw HTTP1Error(400, "an empty head") }
        let (start, isVersion10) = try self.startLine(line, isResponse: answering != nil, limits)
        let fields = try parser.fields(max: limits.fieldsMax)
        let known = try KnownFields(fields)
        if case .request = start { try known.checkHost(isRequired: !isVersion10) }
        let framing = try self.framing(start, known, isVersion10, answering)
        let upgrade = known.isUpgrade ? known.upgrade : nil
        return HTTP1Head(
            start: start, isVersion10: isVersion10, fields: fields, framing: framing,
            keepsAlive: !known.closes && (!isVersion10 || known.keepsAlive) && framing != .untilClose,
            upgrade: isVersion10 ? nil : upgrade, expectsContinue: known.expectsContinue && !isVersion10)
    }

    // MARK: Start line

    private static func startLine(
        _ line: UnsafeRawBufferPointer, isResponse: Bool, _ limits: HTTP1Limits
    ) throws(HTTP1Error) -> (HTTP1StartLine, isVersion10: Bool) {
        guard let space = line.firstIndex(of: 0x20) else { throw HTTP1Error(400, "a start line without a space") }
        if isResponse {
            let isVersion10 = try self.version(line[..<space])
            let rest = line[(space + 1)...]
            let digits = rest.prefix(3)
            guard digits.count == 3, digits.allSatisfy({ (0x30...0x39).contains($0) }),
                rest.count == 3 || rest[rest.startIndex + 3] == 0x20
            else { throw HTTP1Error(400, "a status that is not three digits") }
            let status = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
            guard status >= 100 else { throw HTTP1Error(400, "status \(status)") }
            guard rest.allSatisfy({ HTTP1Octets.isText[Int($0)] }) else {
                throw HTTP1Error(400, "a control character in a reason")
            }
            return (.response(status: status), isVersion10)
        }
        let method = line[..<space]
        guard !method.isEmpty, method.count <= limits.methodBytesMax,
            method.allSatisfy({ HTTP1Octets.isToken[Int($0)] })
        else { throw HTTP1Error(400, "a method that is no token") }
        guard let second = line[(space + 1)...].firstIndex(of: 0x20) else {
            throw HTTP1Error(400, "a request line without a version")
        }
        let target = line[(space + 1)..<second]
        guard target.count <= limits.targetBytesMax else { throw HTTP1Error(414, "a target of \(target.count) bytes") }
        guard !target.isEmpty, target.allSatisfy({ HTTP1Octets.isVisible[Int($0)] }) else {
            throw HTTP1Error(400, "a target with characters that are not visible ASCII")
        }
        let isVersion10 = try self.version(line[(second + 1)...])
        return (
            .request(method: String(decoding: method, as: UTF8.self), target: String(decoding: target, as: UTF8.self)),
            isVersion10
        )
    }

    /// A later minor version is spoken to as 1.1 (RFC 9110, 2.5).
    private static func version(_ text: Slice<UnsafeRawBufferPointer>) throws(HTTP1Error) -> Bool {
        guard text.count == 8, text.prefix(5).elementsEqual("HTTP/".utf8), text[text.startIndex + 6] == 0x2E,
            (0x30...0x39).contains(text[text.startIndex + 5]), (0x30...0x39).contains(text[text.startIndex + 7])
        else { throw HTTP1Error(400, "no version of HTTP") }
        guard text[text.startIndex + 5] == 0x31 else { throw HTTP1Error(505, "a version of HTTP other than 1") }
        return text[text.startIndex + 7] == 0x30
    }

    // MARK: Framing

    /// RFC 9112, 6.3, without its permissions to repair.
    private static func framing(
        _ start: HTTP1StartLine, _ known: KnownFields, _ isVersion10: Bool, _ answering: Answered?
    ) throws(HTTP1Error) -> HTTP1Framing {
        if known.isChunked {
            guard known.length == nil else { throw HTTP1Error(400, "both Content-Length and Transfer-Encoding") }
            guard !isVersion10 else { throw HTTP1Error(400, "Transfer-Encoding in HTTP/1.0") }
        }
        if case .response(let status) = start {
            if status == 101 { return .tunnel }
            if answering == .connect, (200..<300).contains(status) { return .tunnel }
            if answering == .head || status < 200 || status == 204 || status == 304 { return .none }
        }
        if known.isChunked { return .chunked }
        if let length = known.length { return length == 0 ? .none : .length(length) }
        if case .response = start { return .untilClose }
        return .none
    }
}
