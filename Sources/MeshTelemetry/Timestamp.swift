internal import Glibc

/// Wall-clock time as the logs and dumps write it.
public enum Timestamp {
    /// Microseconds since 1970 in UTC.
    public static func microsecondsNow() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }

    public static func secondsNow() -> Int64 { Self.microsecondsNow() / 1_000_000 }

    /// RFC 3339 in UTC with six digits of a second: `2026-11-25T21:00:14.000123Z`.
    public static func text(microseconds: Int64) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(27)
        Self.append(microseconds: microseconds, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// RFC 3339 in UTC, whole seconds: `2026-11-25T21:00:14Z`.
    public static func text(seconds: Int64) -> String {
        var bytes: [UInt8] = []
        Self.appendSeconds(seconds, to: &bytes)
        bytes.append(UInt8(ascii: "Z"))
        return String(decoding: bytes, as: UTF8.self)
    }

    package static func append(microseconds: Int64, to bytes: inout [UInt8]) {
        let (seconds, fraction) = Self.floorDivide(microseconds, 1_000_000)
        Self.appendSeconds(seconds, to: &bytes)
        bytes.append(UInt8(ascii: "."))
        Self.appendDigits(fraction, width: 6, to: &bytes)
        bytes.append(UInt8(ascii: "Z"))
    }

    private static func appendSeconds(_ seconds: Int64, to bytes: inout [UInt8]) {
        let (days, second) = Self.floorDivide(seconds, 86_400)
        // Days to a date of the proleptic Gregorian calendar, in years that begin in March: the leap day is the last
        // day of such a year, so that months have fixed offsets. An era is 400 years, 146 097 days.
        let shifted = days + 719_468
        let (era, dayOfEra) = Self.floorDivide(shifted, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * marchMonth + 2) / 5 + 1
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        Self.appendDigits(year, width: 4, to: &bytes)
        for (mark, value) in [("-", month), ("-", day), ("T", second / 3600), (":", second / 60 % 60)] {
            bytes.append(mark.utf8.first!)
            Self.appendDigits(value, width: 2, to: &bytes)
        }
        bytes.append(UInt8(ascii: ":"))
        Self.appendDigits(second % 60, width: 2, to: &bytes)
    }

    private static func floorDivide(_ value: Int64, _ by: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = value.quotientAndRemainder(dividingBy: by)
        return remainder < 0 ? (quotient - 1, remainder + by) : (quotient, remainder)
    }

    private static func appendDigits(_ value: Int64, width: Int, to bytes: inout [UInt8]) {
        let start = bytes.count
        bytes.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: width))
        var rest = value
        for index in (start..<start + width).reversed() {
            bytes[index] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        }
    }
}
