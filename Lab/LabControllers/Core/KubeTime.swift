internal import Foundation

/// A moment as Kubernetes writes it: RFC 3339 in UTC, whole seconds in most fields, microseconds in leases.
package struct KubeTime: Hashable, Sendable, Comparable {
    package var microsecondsSince1970: Int64

    package init(microsecondsSince1970: Int64) { self.microsecondsSince1970 = microsecondsSince1970 }
    package init(secondsSince1970: Int64) { self.microsecondsSince1970 = secondsSince1970 * 1_000_000 }

    package static var now: KubeTime {
        KubeTime(microsecondsSince1970: Int64(Date().timeIntervalSince1970 * 1_000_000))
    }

    /// `2026-11-25T10:00:00Z`
    package var text: String { self.civil + "Z" }
    /// `2026-11-25T10:00:00.000000Z`, the MicroTime of leases.
    package var microText: String {
        let fraction = String(Self.modulo(self.microsecondsSince1970, 1_000_000))
        return "\(self.civil).\(String(repeating: "0", count: 6 - fraction.count))\(fraction)Z"
    }

    /// Reads `YYYY-MM-DDThh:mm:ss[.fraction]Z`; the API server writes no other zone. Nil for anything else.
    package init?(_ text: String?) {
        guard let bytes = text.map({ Array($0.utf8) }), bytes.count >= 20, bytes.last == UInt8(ascii: "Z") else {
            return nil
        }
        func number(_ range: Range<Int>) -> Int64? {
            var value: Int64 = 0
            for byte in bytes[range] {
                guard (48...57).contains(byte) else { return nil }
                value = value * 10 + Int64(byte - 48)
            }
            return value
        }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
            let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
            (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        var micros: Int64 = 0
        if bytes[19] == UInt8(ascii: ".") {
            let digits = bytes[20..<bytes.count - 1].prefix(6)
            guard !digits.isEmpty, let value = number(digits.startIndex..<digits.endIndex) else { return nil }
            micros = value
            for _ in digits.count..<6 { micros *= 10 }
        } else if bytes.count != 20 {
            return nil
        }
        let seconds = Self.days(year: year, month: month, day: day) * 86_400 + hour * 3_600 + minute * 60 + second
        self.microsecondsSince1970 = seconds * 1_000_000 + micros
    }

    package static func < (a: KubeTime, b: KubeTime) -> Bool { a.microsecondsSince1970 < b.microsecondsSince1970 }
    package static func + (time: KubeTime, seconds: Int64) -> KubeTime {
        KubeTime(microsecondsSince1970: time.microsecondsSince1970 + seconds * 1_000_000)
    }
    /// The time from `other` until this moment; negative when `other` is later.
    package func since(_ other: KubeTime) -> Duration {
        .microseconds(self.microsecondsSince1970 - other.microsecondsSince1970)
    }

    private static func modulo(_ value: Int64, _ by: Int64) -> Int64 { ((value % by) + by) % by }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March.
    private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let year = month <= 2 ? year - 1 : year
        let era = (year >= 0 ? year : year - 399) / 400
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private var civil: String {
        let seconds = (self.microsecondsSince1970 - Self.modulo(self.microsecondsSince1970, 1_000_000)) / 1_000_000
        let secondOfDay = Self.modulo(seconds, 86_400)
        let shifted = (seconds - secondOfDay) / 86_400 + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth + (shiftedMonth < 10 ? 3 : -9)
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        func two(_ value: Int64) -> String { value < 10 ? "0\(value)" : String(value) }
        return "\(year)-\(two(month))-\(two(day))T\(two(secondOfDay / 3_600)):"
            + "\(two(secondOfDay / 60 % 60)):\(two(secondOfDay % 60))"
    }
}
