/// What a proxy passes on (RFC 9110, 7.6.1).
extension HTTP2HeaderList {
    private static let ofConnection: [StaticString] = [
        "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te",
    ]

    /// Without pseudo-headers, `host`, and what concerns one connection only. `te: trailers` stays: gRPC asks for it.
    package func endToEnd() -> HTTP2HeaderList {
        var dropped: [ArraySlice<UInt8>] = []
        for index in self.fields.indices where self.hasName(index, "connection") {
            // Names that the sender lists concern this connection too.
            for name in self.valueBytes(index).split(separator: 0x2C) {
                let lower = name.map { (65...90).contains($0) ? $0 | 0x20 : $0 }.filter { $0 != 0x20 && $0 != 0x09 }
                dropped.append(lower[...])
            }
        }
        var list = HTTP2HeaderList()
        list.bytes.reserveCapacity(self.bytes.count)
        list.fields.reserveCapacity(self.fields.count)
        for index in self.fields.indices {
            let name = self.nameBytes(index)
            guard let first = name.first, first != 0x3A else { continue }
            switch first {
            case UInt8(ascii: "h") where self.hasName(index, "host"): continue
            case UInt8(ascii: "c"), UInt8(ascii: "k"), UInt8(ascii: "p"), UInt8(ascii: "t"), UInt8(ascii: "u"):
                if Self.ofConnection.contains(where: { self.hasName(index, $0) }) {
                    guard self.hasName(index, "te"), self.saysTrailers(index) else { continue }
                    list.append("te", "trailers")
                    continue
                }
            default: break
            }
            if !dropped.isEmpty, dropped.contains(where: { $0.elementsEqual(name) }) { continue }
            let offset = list.bytes.count
            let field = self.fields[index]
            list.bytes.append(
                contentsOf: self.bytes[field.offset..<field.offset + field.nameCount + field.valueCount])
            list.appended(offset, field.nameCount, field.valueCount, field.isSensitive)
        }
        return list
    }

    /// Trailers without what must not come behind a body: framing, and where the message goes (RFC 9110, 6.5.1).
    package func trailersToForward() -> HTTP2HeaderList {
        if self.isEmpty { return self }
        var list = self.endToEnd()
        list.remove(named: "content-length")
        list.remove(named: "trailer")
        return list
    }

    private func saysTrailers(_ index: Int) -> Bool {
        self.value(index).lowercased().split(separator: ",").contains {
            $0.split(separator: ";").first.map { $0.filter { $0 != " " } == "trailers" } ?? false
        }
    }

    /// Whether there is a field of that lower-case name.
    package func has(_ name: StaticString) -> Bool { self.firstIndex(of: name) != nil }
}
