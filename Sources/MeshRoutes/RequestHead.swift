package import MeshHTTP

/// A request as decisions see it, whatever version of HTTP brought it.
package struct RequestHead: Sendable {
    package var method: String
    /// `http` or `https`.
    package var scheme: String
    /// Host and, if the client said it, port; the empty string when an HTTP/1.0 client said nothing.
    package var authority: String
    /// Path and query as the client wrote them, visible ASCII; `*` for OPTIONS.
    package var path: String
    /// Lower-case names, without pseudo-headers and without what concerns one connection only (RFC 9110, 7.6.1).
    package var fields: HTTP2HeaderList

    package init(method: String, scheme: String, authority: String, path: String, fields: HTTP2HeaderList) {
        self.method = method
        self.scheme = scheme
        self.authority = authority
        self.path = path
        self.fields = fields
    }
}

package struct ResponseHead: Sendable {
    /// 100 to 599.
    package var status: Int
    package var fields: HTTP2HeaderList

    package init(status: Int, fields: HTTP2HeaderList = HTTP2HeaderList()) {
        self.status = status
        self.fields = fields
    }
}
