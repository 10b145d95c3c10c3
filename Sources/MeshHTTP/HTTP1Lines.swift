/// Finds where a head, or a section of trailers, ends: at the first empty line. Remembers how far it has looked, so that a
/// head which comes byte by byte is not looked at again and again.
struct HTTP1LineScanner {
    private var lineStart = 0
    private var searched = 0

    /// - Parameter bytes: from the first byte of the head on; longer than in the call before.
    /// - Returns: the length with the empty line; nil when it has not come.
    /// - Throws: for a line that ends with LF alone. Some take it for a line's end and others for part of a value.
    mutating func end(of bytes: UnsafeRawBufferPointer) throws(HTTP1Error) -> Int? {
        while let at = bytes[self.searched...].firstIndex(of: 0x0A) {
            guard at > self.lineStart, bytes[at - 1] == 0x0D else { throw HTTP1Error(400, "a line ends with LF alone") }
            let isEmpty = at - self.lineStart == 1
            self.lineStart = at + 1
            self.searched = at + 1
            if isEmpty { return at + 1 }
        }
        self.searched = bytes.count
        return nil
    }
}

/// Takes a head or trailers apart. The bytes are whole: every line ends with CR LF, the last one is empty.
struct HTTP1LineParser {
    private let bytes: UnsafeRawBufferPointer
    private var at: Int

    init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
        self.at = 0
    }

    /// The next line without its end; nil at the empty one.
    mutating func line() -> UnsafeRawBufferPointer? {
        // The scanner saw a LF behind every byte but the last.
        let end = self.bytes[self.at...].firstIndex(of: 0x0A)!
        defer { self.at = end + 1 }
        return end - self.at == 1 ? nil : UnsafeRawBufferPointer(rebasing: self.bytes[self.at..<(end - 1)])
    }

    /// Every field that is left.
    mutating func fields(max: Int) throws(HTTP1Error) -> HTTP2HeaderList {
        var list = HTTP2HeaderList()
        while let line = self.line() {
            guard list.count < max else { throw HTTP1Error(431, "more than \(max) fields") }
            try Self.append(line, to: &list)
        }
        return list
    }

    private static func append(_ line: UnsafeRawBufferPointer, to list: inout HTTP2HeaderList) throws(HTTP1Error) {
        if line[0] == 0x20 || line[0] == 0x09 { throw HTTP1Error(400, "a folded line") }
        guard let colon = line.firstIndex(of: 0x3A) else { throw HTTP1Error(400, "a field without a colon") }
        let name = line[..<colon]
        guard !name.isEmpty, name.allSatisfy({ HTTP1Octets.isToken[Int($0)] }) else {
            throw HTTP1Error(400, "a field name that is no token")
        }
        var value = line[(colon + 1)...]
        while let first = value.first, first == 0x20 || first == 0x09 { value.removeFirst() }
        while let last = value.last, last == 0x20 || last == 0x09 { value.removeLast() }
        guard value.allSatisfy({ HTTP1Octets.isText[Int($0)] }) else {
            throw HTTP1Error(400, "a control character in a field's value")
        }
        let offset = list.bytes.count
        for octet in name { list.bytes.append(octet >= 0x41 && octet <= 0x5A ? octet | 0x20 : octet) }
        list.bytes.append(contentsOf: value)
        list.appended(offset, name.count, value.count, false)
    }
}

/// Octets by their place in the grammar (RFC 9110, 5.6.2 and 5.5).
enum HTTP1Octets {
    static let isToken: [Bool] = Self.table { octet in
        (0x30...0x39).contains(octet) || (0x41...0x5A).contains(octet) || (0x61...0x7A).contains(octet)
            || "!#$%&'*+-.^_`|~".utf8.contains(octet)
    }
    /// Of a field's value: visible, space, tab, or beyond ASCII.
    static let isText: [Bool] = Self.table { $0 == 0x09 || ($0 >= 0x20 && $0 != 0x7F) }
    /// Of a request's target: visible ASCII.
    static let isVisible: [Bool] = Self.table { (0x21...0x7E).contains($0) }

    private static func table(_ holds: (UInt8) -> Bool) -> [Bool] { (0...255).map { holds($0) } }
}
