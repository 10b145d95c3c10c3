/// The fields that decide where a message ends and what becomes of its connection.
struct KnownFields {
    private(set) var length: UInt64?
    private(set) var isChunked = false
    private(set) var closes = false
    private(set) var keepsAlive = false
    private(set) var isUpgrade = false
    private(set) var upgrade: String?
    private(set) var expectsContinue = false
    private var host: ArraySlice<UInt8>?

    init(_ fields: HTTP2HeaderList) throws(HTTP1Error) {
        for index in 0..<fields.count {
            let value = fields.valueBytes(index)
            if fields.hasName(index, "content-length") {
                try self.takeLength(value)
            } else if fields.hasName(index, "transfer-encoding") {
                try self.takeEncoding(value)
            } else if fields.hasName(index, "host") {
                guard self.host == nil else { throw HTTP1Error(400, "more than one Host") }
                self.host = value
            } else if fields.hasName(index, "connection") {
                self.takeConnection(value)
            } else if fields.hasName(index, "upgrade") {
                guard self.upgrade == nil else { throw HTTP1Error(400, "more than one Upgrade") }
                self.upgrade = String(decoding: value, as: UTF8.self)
            } else if fields.hasName(index, "expect") {
                guard HTTP1Text.isEqual(value, "100-continue") else {
                    throw HTTP1Error(417, "an expectation other than 100-continue")
                }
                self.expectsContinue = true
            }
        }
    }

    /// Digits and nothing else, once. A list of equal numbers would be allowed; who sends one is up to something.
    private mutating func takeLength(_ value: ArraySlice<UInt8>) throws(HTTP1Error) {
        guard self.length == nil else { throw HTTP1Error(400, "more than one Content-Length") }
        guard !value.isEmpty, value.count <= 18, value.allSatisfy({ (0x30...0x39).contains($0) }) else {
            throw HTTP1Error(400, "a Content-Length that is no number")
        }
        self.length = value.reduce(0) { $0 * 10 + UInt64($1 - 0x30) }
    }

    private mutating func takeEncoding(_ value: ArraySlice<UInt8>) throws(HTTP1Error) {
        guard !self.isChunked else { throw HTTP1Error(400, "more than one Transfer-Encoding") }
        guard HTTP1Text.isEqual(value, "chunked") else {
            let isLast = HTTP1Text.elements(of: value).last.map { HTTP1Text.isEqual($0, "chunked") } ?? false
            throw HTTP1Error(isLast ? 501 : 400, "a Transfer-Encoding other than chunked")
        }
        self.isChunked = true
    }

    private mutating func takeConnection(_ value: ArraySlice<UInt8>) {
        for option in HTTP1Text.elements(of: value) {
            if HTTP1Text.isEqual(option, "close") { self.closes = true }
            if HTTP1Text.isEqual(option, "keep-alive") { self.keepsAlive = true }
            if HTTP1Text.isEqual(option, "upgrade") { self.isUpgrade = true }
        }
    }

    /// RFC 9112, 3.2. An authority of visible characters that cannot be taken for more than a name and a port.
    func checkHost(isRequired: Bool) throws(HTTP1Error) {
        guard let host else {
            if isRequired { throw HTTP1Error(400, "no Host") }
            return
        }
        let forbidden = Array("/\\@?#, \"<>".utf8)
        guard host.allSatisfy({ HTTP1Octets.isVisible[Int($0)] && !forbidden.contains($0) }) else {
            throw HTTP1Error(400, "a Host that is no name or address with a port")
        }
    }
}

enum HTTP1Text {
    /// `withUnsafeBytes`, which would lose the error's type.
    static func withBytes<Value>(
        _ octets: [UInt8], _ body: (UnsafeRawBufferPointer) throws(HTTP1Error) -> Value
    ) throws(HTTP1Error) -> Value {
        let result: Result<Value, HTTP1Error> = octets.withUnsafeBytes { bytes in
            do throws(HTTP1Error) { return .success(try body(bytes)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// ASCII, whatever the case.
    static func isEqual(_ text: some Collection<UInt8>, _ lower: StaticString) -> Bool {
        lower.withUTF8Buffer { wanted in
            text.count == wanted.count
                && text.elementsEqual(wanted) { $0 == $1 || ((0x41...0x5A).contains($0) && $0 | 0x20 == $1) }
        }
    }

    /// Of a comma-separated list, without the space around them and without empty ones.
    static func elements(of value: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
        value.split(separator: 0x2C).compactMap { element in
            var element = element
            while let first = element.first, first == 0x20 || first == 0x09 { element.removeFirst() }
            while let last = element.last, last == 0x20 || last == 0x09 { element.removeLast() }
            return element.isEmpty ? nil : element
        }
    }
}
