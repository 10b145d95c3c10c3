/// The name of an image in its full form, as docker completes short ones: `busybox` is
/// `docker.io/library/busybox:latest`.
package struct ImageReference: Hashable, Sendable, CustomStringConvertible {
    /// Registry and path: `docker.io/library/busybox`.
    package var repository: String
    /// Empty when only a digest is given.
    package var tag: String
    package var digest: String?

    package init(_ text: String) {
        var rest = text[...]
        if let at = rest.firstIndex(of: "@") {
            self.digest = String(rest[rest.index(after: at)...])
            rest = rest[..<at]
        }
        self.tag = self.digest == nil ? "latest" : ""
        if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
            self.tag = String(rest[rest.index(after: colon)...])
            rest = rest[..<colon]
        }
        var parts = rest.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        // A registry has a dot, a port, or is localhost; anything else is a user of Docker Hub.
        let hasRegistry =
            parts.count > 1
            && (parts[0].contains(".") || parts[0].contains(":") || parts[0] == "localhost")
        if !hasRegistry { parts.insert("docker.io", at: 0) }
        if parts[0] == "index.docker.io" { parts[0] = "docker.io" }
        if parts[0] == "docker.io", parts.count == 2 { parts.insert("library", at: 1) }
        self.repository = parts.joined(separator: "/")
    }

    package var description: String {
        self.repository + (self.tag.isEmpty ? "" : ":\(self.tag)") + (self.digest.map { "@\($0)" } ?? "")
    }
}
