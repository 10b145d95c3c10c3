internal import AsyncHTTPClient
internal import NIOCore

/// `martlet wait`: ends when the sidecar beside it is ready. Injection makes it the first thing that the sidecar's container
/// does, so that the app's containers start after it (`holdApplicationUntilProxyStarts`).
public enum WaitRole {
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    private static let url = "http://127.0.0.1:15021/healthz/ready"
    private static let interval = Duration.milliseconds(100)
    private static let requestTimeout = TimeAmount.seconds(1)

    /// - Parameter arguments: `--timeoutSeconds N`, 60 without it; `--url URL`.
    /// - Throws: when the sidecar is not ready in time.
    public static func run(arguments: [String]) async throws {
        var (url, seconds) = (Self.url, 60)
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
            guard let value = parts.count == 2 ? parts[1] : rest.popFirst() else {
                throw Failure(description: "\(argument) wants a value")
            }
            switch parts[0] {
            case "--url": url = value
            case "--timeoutSeconds":
                guard let number = Int(value), (1...86_400).contains(number) else {
                    throw Failure(
                        description: "--timeoutSeconds \"\(value)\": wanted a number of seconds from 1 to 86400")
                }
                seconds = number
            default: throw Failure(description: "unknown argument \(parts[0]); known are --timeoutSeconds and --url")
            }
        }
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            let answer = try? await HTTPClient.shared.execute(HTTPClientRequest(url: url), timeout: Self.requestTimeout)
            if answer?.status == .ok { return }
            guard ContinuousClock.now < end else {
                let last = answer.map { "it answers with status \($0.status.code)" } ?? "it does not answer"
                throw Failure(description: "the sidecar is not ready after \(seconds) s: \(last) at \(url)")
            }
            try await Task.sleep(for: Self.interval)
        }
    }
}
