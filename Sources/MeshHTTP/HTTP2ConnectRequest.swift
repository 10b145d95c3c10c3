/// A CONNECT to a host and port (RFC 9113 section 8.5): how HBONE opens a stream.
package struct HTTP2ConnectRequest: Sendable {
    /// `host:port` or `[v6]:port` as it came.
    package let authority: String
    package let fields: HTTP2HeaderList

    /// - Throws: `notConnect` for a good request of another kind, so that the caller can answer it with a status
    ///   instead of a reset.
    package init(validating fields: HTTP2HeaderList) throws(HTTP2MalformedMessage) {
        let head = try HTTP2RequestHead(validating: fields)
        guard head.isPlainConnect, let authority = head.authority else { throw .notConnect(method: head.method) }
        self.authority = authority
        self.fields = fields
    }

    /// Appends `:method CONNECT` and `:authority` to a block that ``HPACKEncoder/begin(_:)`` has begun. The method is
    /// not in the static table, so it earns a place in the dynamic one, as does an authority that will come again.
    package static func append(
        authority: String, authorityIndexing: HPACKEncoder.Indexing = .table, _ encoder: inout HPACKEncoder,
        to block: inout [UInt8]
    ) {
        encoder.append(":method", "CONNECT", .table, to: &block)
        encoder.append(":authority", authority, authorityIndexing, to: &block)
    }
}
