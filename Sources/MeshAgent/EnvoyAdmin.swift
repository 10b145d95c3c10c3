internal import AsyncHTTPClient
internal import Foundation
internal import NIOCore

/// Envoy's own port for questions and orders, which only its machine reaches.
package struct EnvoyAdmin: Sendable {
    /// Where Envoy writes which address it took.
    private let addressFile: String

    package init(addressFile: String) { self.addressFile = addressFile }

    private static let timeout = TimeAmount.seconds(3)
    /// Statistics of thousands of clusters.
    private static let bodyBytesMax = 64 << 20

    /// - Returns: nil when there is no answer.
    package func ask(_ path: String, method: String = "GET") async -> (status: Int, body: String)? {
        guard let bytes = FileManager.default.contents(atPath: self.addressFile), !bytes.isEmpty else { return nil }
        let address = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
        var request = HTTPClientRequest(url: "http://\(address)\(path)")
        request.method = method == "POST" ? .POST : .GET
        do {
            let response = try await HTTPClient.shared.execute(request, timeout: Self.timeout)
            let body = try await response.body.collect(upTo: Self.bodyBytesMax)
            return (Int(response.status.code), String(buffer: body))
        } catch {
            return nil
        }
    }

    /// It knows its configuration, and takes connections.
    package var isReady: Bool { get async { await self.ask("/ready")?.status == 200 } }

    /// Connections of clients with tunnels; nil: it does not say.
    package var openTunnelConnections: Int? {
        get async {
            guard let answer = await self.ask("/stats?filter=^http.connect_terminate.downstream_cx_active$"),
                answer.status == 200, let number = answer.body.split(separator: ":").last
            else { return nil }
            return Int(number.filter { !$0.isWhitespace })
        }
    }

    /// Connections that any of its listeners carries, without those of people who look at it; nil: it does not say.
    package var openConnections: Int? {
        get async {
            guard let answer = await self.ask("/stats?filter=^listener\\..*downstream_cx_active$"),
                answer.status == 200
            else { return nil }
            return Self.sum(answer.body)
        }
    }

    /// Lines of `listener.<address or name>.downstream_cx_active: <number>`; those of single workers count the same again.
    package static func sum(_ text: String) -> Int {
        text.split(separator: "\n").reduce(0) { sum, line in
            if line.hasPrefix("listener.admin.") || line.hasPrefix("listener.0.0.0.0_15090.")
                || line.contains(".worker_")
            {
                return sum
            }
            return sum + (line.split(separator: " ").last.flatMap { Int($0) } ?? 0)
        }
    }
}
