package import MeshHTTP

/// The cookies of a request: pieces between `;` of all its `cookie` fields (RFC 6265, 5.4).
package enum CookieField {
    /// The first value of that name, without the quotes around it.
    package static func value(named name: String, in fields: HTTP2HeaderList) -> String? {
        for index in 0..<fields.count where fields.hasName(index, "cookie") {
            for piece in fields.valueBytes(index).split(separator: UInt8(ascii: ";")) {
                guard let (found, value) = Self.pair(piece), found.elementsEqual(name.utf8) else { continue }
                return String(decoding: value, as: UTF8.self)
            }
        }
        return nil
    }

    /// Takes every cookie of that name out; other cookies keep their order.
    package static func remove(named name: String, from fields: inout HTTP2HeaderList) {
        guard Self.value(named: name, in: fields) != nil else { return }
        var kept: [ArraySlice<UInt8>] = []
        for index in 0..<fields.count where fields.hasName(index, "cookie") {
            for piece in fields.valueBytes(index).split(separator: UInt8(ascii: ";")) {
                if let (found, _) = Self.pair(piece), found.elementsEqual(name.utf8) { continue }
                kept.append(Self.trimmed(piece))
            }
        }
        fields.remove(named: "cookie")
        if kept.isEmpty { return }
        fields.append("cookie", kept.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "; "))
    }

    private static func trimmed(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var text = text
        while let first = text.first, first == 32 || first == 9 { text.removeFirst() }
        while let last = text.last, last == 32 || last == 9 { text.removeLast() }
        return text
    }

    private static func pair(_ piece: ArraySlice<UInt8>) -> (name: ArraySlice<UInt8>, value: ArraySlice<UInt8>)? {
        guard let equals = piece.firstIndex(of: UInt8(ascii: "=")) else { return nil }
        var value = Self.trimmed(piece[(equals + 1)...])
        if value.count >= 2, value.first == UInt8(ascii: "\""), value.last == UInt8(ascii: "\"") {
            value = value.dropFirst().dropLast()
        }
        return (Self.trimmed(piece[..<equals]), value)
    }
}
