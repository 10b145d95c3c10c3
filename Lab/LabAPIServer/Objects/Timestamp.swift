internal import Foundation

/// Times as the API writes them: RFC 3339 in UTC.
enum Timestamp {
    static var now: String { self.text(secondsSince1970: Int64(Date().timeIntervalSince1970)) }

    static func text(secondsSince1970 seconds: Int64) -> String {
        let days = Int((Double(seconds) / 86_400).rounded(.down))
        let rest = Int(seconds) - days * 86_400
        // Days to civil date, by the era arithmetic of Howard Hinnant's date algorithms.
        let z = days + 719_468
        let era = (z >= 0 ? z : z - 146_096) / 146_097
        let dayOfEra = z - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shifted + 2) / 5 + 1
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let padded = String(repeating: "0", count: max(0, 4 - String(year).count)) + String(year)
        return "\(padded)-\(two(month))-\(two(day))T\(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60))Z"
    }

    /// Seconds since 1970 of an RFC 3339 text; fractions and offsets are understood. Nil for anything else.
    static func seconds(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20, bytes[4] == 45, bytes[7] == 45, bytes[10] == 84 || bytes[10] == 116, bytes[13] == 58,
            bytes[16] == 58
        else { return nil }
        func number(_ range: Range<Int>) -> Int? { Int(String(decoding: bytes[range], as: UTF8.self)) }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), (1...12).contains(month),
            (1...31).contains(day),
            hour < 24, minute < 60, second <= 60
        else { return nil }
        var at = 19
        if bytes[at] == 46 {
            at += 1
            while at < bytes.count, (48...57).contains(bytes[at]) { at += 1 }
        }
        guard at < bytes.count else { return nil }
        var offset = 0
        switch bytes[at] {
        case 90, 122: guard at + 1 == bytes.count else { return nil }
        case 43, 45:
            guard at + 6 == bytes.count, let hours = number(at + 1..<at + 3), let minutes = number(at + 4..<at + 6)
            else { return nil }
            offset = (hours * 60 + minutes) * 60 * (bytes[at] == 43 ? 1 : -1)
        default: return nil
        }
        let y = month <= 2 ? year - 1 : year
        let era = (y >= 0 ? y : y - 399) / 400
        let yearOfEra = y - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        let days = era * 146_097 + dayOfEra - 719_468
        return Int64(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
    }

    static func isValid(_ text: String) -> Bool { self.seconds(text) != nil }

    /// A duration as tables show it: `5s`, `2m3s`, `3h`, `4d2h`.
    static func age(_ seconds: Int64) -> String {
        let s = max(0, seconds)
        func pair(_ value: Int64, _ unit: String, _ rest: Int64, _ small: String) -> String {
            rest == 0 ? "\(value)\(unit)" : "\(value)\(unit)\(rest)\(small)"
        }
        let (minute, hour, day, year): (Int64, Int64, Int64, Int64) = (60, 3600, 86_400, 31_536_000)
        switch s {
        case ..<120: return "\(s)s"
        case ..<(10 * minute): return pair(s / minute, "m", s % minute, "s")
        case ..<(3 * hour): return "\(s / minute)m"
        case ..<(8 * hour): return pair(s / hour, "h", s / minute % 60, "m")
        case ..<(48 * hour): return "\(s / hour)h"
        case ..<(8 * day): return pair(s / day, "d", s / hour % 24, "h")
        case ..<(2 * year): return "\(s / day)d"
        case ..<(8 * year): return pair(s / year, "y", s / day % 365, "d")
        default: return "\(s / year)y"
        }
    }

    /// The age of an RFC 3339 time; `<unknown>` without one.
    static func age(since text: String?) -> String {
        guard let text, let then = self.seconds(text) else { return "<unknown>" }
        return self.age(Int64(Date().timeIntervalSince1970) - then)
    }
}

/// Dotted-quad addresses as numbers.
enum IPv4 {
    static func parse(_ text: String) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard let byte = UInt8(part), String(byte) == part else { return nil }
            value = value << 8 | UInt32(byte)
        }
        return value
    }

    static func text(_ value: UInt32) -> String {
        "\(value >> 24).\(value >> 16 & 255).\(value >> 8 & 255).\(value & 255)"
    }
}
