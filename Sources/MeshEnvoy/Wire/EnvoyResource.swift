/// A resource of one Envoy's configuration, encoded. Equal content gives equal bytes.
package struct EnvoyResource: Hashable, Sendable {
    /// `type.googleapis.com/…`
    package let type: String
    package let name: String
    package let bytes: [UInt8]

    init(_ name: String, _ content: some EnvoyMessage) {
        self.type = Swift.type(of: content).typeURL
        self.name = name
        self.bytes = content.bytes
    }

}
