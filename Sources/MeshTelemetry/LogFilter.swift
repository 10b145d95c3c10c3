internal import Synchronization

/// Which scopes may say what: a default level and exceptions, written `info,xds=debug,access=off`.
public struct LogDirectives: Hashable, Sendable, CustomStringConvertible {
    public var level = LogLevel.info
    /// By scope; a scope `a` covers `a`, `a::b` and `a.b`, and the longest match counts.
    public private(set) var scopes: [String: LogLevel] = [:]

    /// More exceptions than this are refused: they come from outside.
    static let scopesMax = 128

    public init(level: LogLevel = .info) { self.level = level }

    /// Reads a comma list of levels and `scope=level` (`scope:level` too) on top of what is set.
    /// - Throws: ``InvalidLogDirective``; nothing is changed then.
    public mutating func merge(_ text: some StringProtocol) throws(InvalidLogDirective) {
        var merged = self
        for part in text.split(separator: ",") {
            let directive = String(part).filter { $0 != " " }
            if let level = LogLevel(directive) {
                merged.level = level
                continue
            }
            // The last mark: scopes may have `::` inside.
            guard let mark = directive.lastIndex(where: { $0 == "=" || $0 == ":" }), mark > directive.startIndex,
                let level = LogLevel(directive[directive.index(after: mark)...])
            else { throw InvalidLogDirective(text: String(part)) }
            merged.scopes[String(directive[..<mark])] = level
            if merged.scopes.count > Self.scopesMax { throw InvalidLogDirective(text: String(part)) }
        }
        self = merged
    }

    public func level(of scope: String) -> LogLevel {
        if self.scopes.isEmpty { return self.level }
        var best: (length: Int, level: LogLevel)?
        for (name, level) in self.scopes where Self.covers(name, scope) && name.utf8.count > best?.length ?? -1 {
            best = (name.utf8.count, level)
        }
        return best?.level ?? self.level
    }

    private static func covers(_ name: String, _ scope: String) -> Bool {
        guard scope.utf8.starts(with: name.utf8) else { return false }
        let next = scope.utf8.dropFirst(name.utf8.count).first
        return next == nil || next == UInt8(ascii: ":") || next == UInt8(ascii: ".")
    }

    public var description: String {
        let exceptions = self.scopes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        return (exceptions + [self.level.description]).joined(separator: ",")
    }
}

public struct InvalidLogDirective: Error, Hashable, CustomStringConvertible {
    public let text: String
    public var description: String {
        "\"\(self.text)\" is no log level: wanted off, error, warn, info, debug, trace, "
            + "or a comma list of scope=level"
    }
}

/// The directives in force, changed while the process runs (`/logging`).
public final class LogFilter: Sendable {
    private let initial: LogDirectives
    private let current: Mutex<LogDirectives>

    public init(_ directives: LogDirectives = LogDirectives()) {
        self.initial = directives
        self.current = Mutex(directives)
    }

    public var directives: LogDirectives { self.current.withLock { $0 } }

    public func allows(_ level: LogLevel, scope: String) -> Bool {
        self.current.withLock { level != .off && level <= $0.level(of: scope) }
    }

    public func merge(_ text: String) throws(InvalidLogDirective) {
        // Computed outside: Mutex.withLock loses the typed error of a throwing body in nested closures.
        var next = self.directives
        try next.merge(text)
        self.current.withLock { $0 = next }
    }

    /// Back to what the process started with.
    public func reset() { self.current.withLock { $0 = self.initial } }
}
