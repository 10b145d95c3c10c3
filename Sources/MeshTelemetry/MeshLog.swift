public import Logging

/// The process's log: filter, format and writer in one place. Access lines go in directly; everything else through
/// swift-log, whose loggers' labels become scopes.
public final class MeshLog: Sendable {
    public let filter: LogFilter
    private let format: LogLine.Format
    private let writer: LogWriter

    public init(filter: LogFilter, format: LogLine.Format, writer: LogWriter) {
        self.filter = filter
        self.format = format
        self.writer = writer
    }

    public convenience init(
        directives: LogDirectives = LogDirectives(), format: LogLine.Format = .plain,
        destination: any LogDestination = DescriptorDestination.standardOutput
    ) {
        self.init(filter: LogFilter(directives), format: format, writer: LogWriter(destination))
    }

    public func allows(_ level: LogLevel, scope: String) -> Bool { self.filter.allows(level, scope: scope) }

    /// Writes the line if its scope may say it.
    public func write(_ line: LogLine) {
        guard self.filter.allows(line.level, scope: line.scope) else { return }
        self.writer.write(line.bytes(self.format))
    }

    /// A line in a form of its own, with its end; the caller has asked ``allows(_:scope:)``.
    package func write(raw line: [UInt8]) { self.writer.write(line) }

    /// Returns when everything is written that was said before.
    public func flush() async { await self.writer.flush() }

    /// A logger of this log; `LoggingSystem` need not know.
    public func logger(_ scope: String) -> Logger {
        Logger(label: scope) { label in MeshLogHandler(log: self, scope: label) }
    }

    /// Makes loggers that libraries create by label end here too. Once per process.
    public func bootstrap() { LoggingSystem.bootstrap { label in MeshLogHandler(log: self, scope: label) } }
}

struct MeshLogHandler: LogHandler {
    let log: MeshLog
    let scope: String
    var metadata: Logger.Metadata = [:]
    /// The filter decides, and it can change: everything has to arrive here.
    var logLevel: Logger.Level {
        get { .trace }
        set {}
    }

    init(log: MeshLog, scope: String) {
        self.log = log
        self.scope = scope
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let level = LogLevel(event.level)
        guard self.log.allows(level, scope: self.scope) else { return }
        var merged = self.metadata
        if let metadata = event.metadata { merged.merge(metadata) { $1 } }
        self.log.write(
            LogLine(
                level: level, scope: self.scope, message: "\(event.message)",
                fields: merged.sorted { $0.key < $1.key }.map { ($0.key, .text("\($0.value)")) }))
    }
}

extension LogLevel {
    public init(_ level: Logger.Level) {
        switch level {
        case .trace: self = .trace
        case .debug: self = .debug
        case .info, .notice: self = .info
        case .warning: self = .warn
        case .error, .critical: self = .error
        }
    }
}
