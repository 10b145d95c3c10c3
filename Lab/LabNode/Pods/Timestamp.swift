package import Foundation

/// Times as Kubernetes writes them.
package enum Timestamp {
    /// `2026-11-25T20:15:00Z`
    package static func seconds(_ date: Date) -> String {
        let parts = self.parts(date)
        return "\(parts.text)Z"
    }
    /// Nine digits of fraction, as the logs of containers have it.
    package static func nanoseconds(_ date: Date) -> String {
        let parts = self.parts(date)
        return "\(parts.text).\(self.padded(parts.nanoseconds, 9))Z"
    }
    /// Six digits: MicroTime of leases and events.
    package static func microseconds(_ date: Date) -> String {
        let parts = self.parts(date)
        return "\(parts.text).\(self.padded(parts.nanoseconds / 1000, 6))Z"
    }

    /// Reads RFC 3339 with or without a fraction, in UTC.
    package static func date(_ text: String) -> Date? {
        var text = text[...]
        guard text.hasSuffix("Z") else { return nil }
        text = text.dropLast()
        let halves = text.split(separator: ".", maxSplits: 1)
        let numbers = (halves.first ?? "").split(whereSeparator: { "-T:".contains($0) }).compactMap { Int($0) }
        guard numbers.count == 6 else { return nil }
        var time = tm()
        time.tm_year = Int32(clamping: numbers[0] - 1900)
        time.tm_mon = Int32(clamping: numbers[1] - 1)
        time.tm_mday = Int32(clamping: numbers[2])
        time.tm_hour = Int32(clamping: numbers[3])
        time.tm_min = Int32(clamping: numbers[4])
        time.tm_sec = Int32(clamping: numbers[5])
        let fraction = halves.count == 2 ? Double("0.\(halves[1])") ?? 0 : 0
        return Date(timeIntervalSince1970: Double(timegm(&time)) + fraction)
    }

    private static func parts(_ date: Date) -> (text: String, nanoseconds: Int) {
        let interval = date.timeIntervalSince1970
        var seconds = time_t(interval.rounded(.down))
        // A Double of today resolves 0.2 µs; the digits after are noise that does no harm.
        let nanoseconds = min(999_999_999, Int((interval - interval.rounded(.down)) * 1e9))
        var time = tm()
        gmtime_r(&seconds, &time)
        let day = "\(time.tm_year + 1900)-\(self.padded(Int(time.tm_mon) + 1, 2))-\(self.padded(Int(time.tm_mday), 2))"
        let clock = [time.tm_hour, time.tm_min, time.tm_sec].map { self.padded(Int($0), 2) }.joined(separator: ":")
        return ("\(day)T\(clock)", nanoseconds)
    }

    private static func padded(_ number: Int, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
