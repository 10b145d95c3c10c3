internal import Foundation
internal import KubeAPI
internal import NIOHTTP1

/// One HTTP request, taken apart.
struct APIRequest: Sendable {
    /// The store never sees more; 3 MiB as real servers allow.
    static let bodyBytesMax = 3 << 20

    let method: HTTPMethod
    let uri: String
    /// Decoded, without empty ones.
    let segments: [String]
    let query: Query
    let headers: HTTPHeaders
    let body: [UInt8]
    /// DER of a verified client certificate.
    let certificate: [UInt8]?

    init(head: HTTPRequestHead, body: [UInt8], certificate: [UInt8]?) {
        self.method = head.method
        self.uri = head.uri
        let parts = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        self.segments = (parts.first ?? "").split(separator: "/").map { $0.removingPercentEncoding ?? String($0) }
        self.query = Query(parts.count > 1 ? String(parts[1]) : "")
        self.headers = head.headers
        self.body = body
        self.certificate = certificate
    }

    var path: String { "/" + self.segments.joined(separator: "/") }
    func header(_ name: String) -> String? { self.headers.first(name: name) }

    /// Media type without parameters, lower case; nil without a body type.
    var contentType: String? {
        self.header("content-type")?.split(separator: ";").first.map {
            $0.trimmingCharacters(in: .whitespaces).lowercased()
        }
    }

    var isUpgrade: Bool {
        self.headers[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
            && self.headers.contains(name: "upgrade")
    }

    struct Query: Sendable {
        let raw: String
        private let values: [(name: String, value: String)]

        init(_ text: String) {
            self.raw = text
            self.values = text.split(separator: "&").map { pair in
                let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                func decode(_ text: Substring) -> String {
                    let spaced = String(text.replacing("+", with: " "))
                    return spaced.removingPercentEncoding ?? spaced
                }
                return (decode(parts[0]), parts.count > 1 ? decode(parts[1]) : "")
            }
        }

        subscript(name: String) -> String? { self.values.first { $0.name == name }?.value }
        func all(_ name: String) -> [String] { self.values.filter { $0.name == name }.map(\.value) }
        func flag(_ name: String) -> Bool { ["true", "1"].contains(self[name]?.lowercased()) }
        func int(_ name: String) -> Int64? { self[name].flatMap { Int64($0) } }
    }
}

/// One HTTP answer.
struct APIResponse: Sendable {
    enum Body: Sendable {
        case bytes([UInt8])
        /// Chunked; runs until it returns or the client goes away.
        case stream(@Sendable (any ResponseSink) async throws -> Void)
        /// The connection now belongs to a kubelet.
        case upgrade(KubeletTarget)
    }

    var status: Int
    var headers: [(String, String)]
    var body: Body

    init(status: Int, contentType: String, _ bytes: [UInt8]) {
        self.status = status
        self.headers = [("Content-Type", contentType)]
        self.body = .bytes(bytes)
    }
    init(status: Int = 200, json: JSONValue) {
        self.init(status: status, contentType: "application/json", json.encoded)
    }
    init(status: Int = 200, text: String) {
        self.init(status: status, contentType: "text/plain; charset=utf-8", Array(text.utf8))
    }
    init(_ error: StatusError) {
        self.init(status: error.code, json: error.json)
        if let seconds = error.details["retryAfterSeconds"]?.int {
            self.headers.append(("Retry-After", String(seconds)))
        }
    }
    init(stream contentType: String, _ body: @escaping @Sendable (any ResponseSink) async throws -> Void) {
        self.status = 200
        self.headers = [("Content-Type", contentType)]
        self.body = .stream(body)
    }
    init(upgrade target: KubeletTarget) {
        self.status = 101
        self.headers = []
        self.body = .upgrade(target)
    }

    mutating func add(warnings: [String]) {
        var seen: Set<String> = []
        for warning in warnings where seen.insert(warning).inserted {
            let text = warning.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
                .replacing("\n", with: " ").replacing("\r", with: " ")
            self.headers.append(("Warning", "299 - \"\(text)\""))
        }
    }
}

/// Where a streamed body goes. A write returns when the bytes are on their way, so a slow client slows the source.
///
/// The head goes out with the first write or with ``begin()``; a ``StatusError`` thrown before that becomes the answer.
protocol ResponseSink: Sendable {
    func begin() async throws
    func write(_ bytes: [UInt8]) async throws
}
