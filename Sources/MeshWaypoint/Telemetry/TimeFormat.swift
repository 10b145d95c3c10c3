internal import MeshTelemetry

/// How `%START_TIME%` is written: RFC 3339 with milliseconds, or the directives of `strftime` that Envoy's users use, in
/// UTC. `%3f` and the like are digits of the second's fraction.
struct TimeFormat: Hashable, Sendable {
    private enum Piece: Hashable, Sendable {
        case literal([UInt8])
        case year, month, day, hour, minute, second, seconds, fraction(digits: Int), zone
        case date, time
    }
    /// None: RFC 3339.
    private let pieces: [Piece]

    init(_ text: String) throws(InvalidAccessLogFormat) {
        var pieces: [Piece] = []
        var rest = text.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            guard scalar == "%" else {
                pieces.append(.literal(Array(String(scalar).utf8)))
                continue
            }
            switch rest.popFirst() {
            case "Y": pieces.append(.year)
            case "m": pieces.append(.month)
            case "d": pieces.append(.day)
            case "H": pieces.append(.hour)
            case "M": pieces.append(.minute)
            case "S": pieces.append(.second)
            case "s": pieces.append(.seconds)
            case "f": pieces.append(.fraction(digits: 9))
            case "F": pieces.append(.date)
            case "T": pieces.append(.time)
            case "z": pieces.append(.zone)
            case "%": pieces.append(.literal([0x25]))
            case let digit? where ("1"..."9").contains(digit) && rest.first == "f":
                rest = rest.dropFirst()
                pieces.append(.fraction(digits: Int(digit.value - 0x30)))
            case let other:
                throw .badArgument(
                    "START_TIME",
                    "%Y %m %d %H %M %S %s %f %1f to %9f %F %T %z and %%, not %\(other.map { String($0) } ?? "")")
            }
        }
        self.pieces = pieces
    }

    func append(microseconds: Int64, to bytes: inout [UInt8]) {
        var whole: [UInt8] = []
        whole.reserveCapacity(27)
        // 2026-11-26T06:15:14.000123Z: every directive is a part of it.
        Timestamp.append(microseconds: microseconds, to: &whole)
        guard !self.pieces.isEmpty else {
            bytes += whole[..<23]
            bytes.append(UInt8(ascii: "Z"))
            return
        }
        for piece in self.pieces {
            switch piece {
            case .literal(let text): bytes += text
            case .year: bytes += whole[0..<4]
            case .month: bytes += whole[5..<7]
            case .day: bytes += whole[8..<10]
            case .hour: bytes += whole[11..<13]
            case .minute: bytes += whole[14..<16]
            case .second: bytes += whole[17..<19]
            case .date: bytes += whole[0..<10]
            case .time: bytes += whole[11..<19]
            case .seconds: bytes += "\(microseconds / 1_000_000)".utf8
            case .zone: bytes += "+0000".utf8
            case .fraction(let digits):
                bytes += whole[20..<20 + min(digits, 6)]
                bytes += repeatElement(UInt8(ascii: "0"), count: max(digits - 6, 0))
            }
        }
    }
}
