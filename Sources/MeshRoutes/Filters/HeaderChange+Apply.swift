import MeshHTTP

extension HeaderChange {
    /// Fields that say how the message is carried. A filter that changed them would make one message mean two.
    private static let untouchable: [String] = [
        "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
        "upgrade",
    ]

    package static func mayChange(_ name: String) -> Bool {
        !name.utf8.isEmpty && name.utf8.first != UInt8(ascii: ":") && !Self.untouchable.contains(name)
    }

    /// Set replaces all fields of a name, add appends one, remove comes last. Changes of ``untouchable`` fields are
    /// ignored. The `host` of a request is its authority: set and add both replace it, remove does nothing.
    package func apply(to request: inout RequestHead) {
        for field in self.set where field.name == "host" { request.authority = field.value }
        for field in self.add where field.name == "host" { request.authority = field.value }
        self.apply(to: &request.fields, except: "host")
    }

    package func apply(to response: inout ResponseHead) { self.apply(to: &response.fields, except: nil) }

    private func apply(to fields: inout HTTP2HeaderList, except skipped: String?) {
        for field in self.set where Self.mayChange(field.name) && field.name != skipped {
            fields.replace(field.name, field.value)
        }
        for field in self.add where Self.mayChange(field.name) && field.name != skipped {
            fields.append(field.name, field.value)
        }
        for name in self.remove where Self.mayChange(name) && name != skipped { fields.remove(named: name) }
    }
}
