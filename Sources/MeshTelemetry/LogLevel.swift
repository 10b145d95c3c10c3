/// How much a scope says. Ordered from silent to talkative.
public enum LogLevel: UInt8, Hashable, Sendable, Comparable, CaseIterable, CustomStringConvertible {
    case off = 0, error, warn, info, debug, trace

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    /// The level's name in any case; `warning` and `critical` count as `warn` and `error`.
    public init?(_ word: some StringProtocol) {
        switch word.lowercased() {
        case "off": self = .off
        case "error", "critical": self = .error
        case "warn", "warning": self = .warn
        case "info", "notice": self = .info
        case "debug": self = .debug
        case "trace": self = .trace
        default: return nil
        }
    }

    public var description: String {
        switch self {
        case .off: "off"
        case .error: "error"
        case .warn: "warn"
        case .info: "info"
        case .debug: "debug"
        case .trace: "trace"
        }
    }
}
