internal import Glibc

/// The three streams of a small program.
public enum StandardStreams {
    /// Standard input to its end, or to the bound.
    public static func readInput(bytesMax: Int) -> [UInt8] { Files.readAll(0, bytesMax: bytesMax) }
    public static func writeOutput(_ text: String) { Self.write(text, to: 1) }
    public static func writeError(_ text: String) { Self.write(text, to: 2) }

    private static func write(_ text: String, to descriptor: CInt) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            // SAFETY: reads the slice for the time of the call.
            let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0, errno == EINTR { continue }
            if written <= 0 { return }
            rest = rest.dropFirst(written)
        }
    }
}

public enum Clock {
    /// The wall clock as RFC 3339 text in UTC, with seconds: `2026-01-31T23:59:59Z`.
    public static func utcNow() -> String {
        var now = time(nil)
        var parts = tm()
        gmtime_r(&now, &parts)
        func two(_ value: CInt) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
            + "T\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
    }
}
