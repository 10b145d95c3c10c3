import Foundation

/// A request to the kubelet: `/containerLogs/{ns}/{pod}/{container}`, `/exec/...`, `/attach/...`,
/// `/portForward/{ns}/{pod}`, `/healthz`.
package struct KubeletRequest: Hashable, Sendable {
    package enum Target: Hashable, Sendable {
        case health
        case logs(namespace: String, pod: String, container: String)
        case exec(namespace: String, pod: String, container: String)
        case attach(namespace: String, pod: String, container: String)
        case portForward(namespace: String, pod: String)
    }
    package var target: Target
    package var query: [String: [String]]

    /// Nil for a path that the kubelet does not serve.
    package init?(uri: String) {
        let halves = uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let parts = (halves.first ?? "").split(separator: "/").map { Self.decoded($0) }
        switch (parts.first, parts.count) {
        case ("healthz", 1): self.target = .health
        case ("containerLogs", 4): self.target = .logs(namespace: parts[1], pod: parts[2], container: parts[3])
        case ("exec", 4): self.target = .exec(namespace: parts[1], pod: parts[2], container: parts[3])
        case ("attach", 4): self.target = .attach(namespace: parts[1], pod: parts[2], container: parts[3])
        case ("portForward", 3): self.target = .portForward(namespace: parts[1], pod: parts[2])
        default: return nil
        }
        self.query = [:]
        for item in (halves.count > 1 ? halves[1] : "").split(separator: "&") {
            let pair = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let value = pair.count > 1 ? Self.decoded(pair[1]) : ""
            self.query[Self.decoded(pair[0]), default: []].append(value)
        }
    }

    private static func decoded(_ text: Substring) -> String {
        let spaced = text.replacing("+", with: " ")
        return spaced.removingPercentEncoding ?? String(spaced)
    }

    package func flag(_ name: String) -> Bool { ["true", "1"].contains(self.query[name]?.last ?? "") }

    package var pairs: [(String, String)] { self.query.flatMap { name, values in values.map { (name, $0) } } }
}

/// The protocols of streams in WebSockets.
package enum StreamProtocol {
    package static let exec = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
    package static let portForward = ["SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io"]

    /// The best of ours among those offered; nil when there is none.
    package static func choose(_ ours: [String], offered headers: [String]) -> String? {
        let offered = headers.flatMap { $0.split(separator: ",") }
            .map { $0.trimmingCharacters(in: .whitespaces) }
        return ours.first { offered.contains($0) }
    }
}
