public import Foundation

/// A process that cannot be mistaken for a later one with the same number: its pid and when it started.
public struct ProcessIdentity: Hashable, Sendable {
    public let pid: pid_t
    /// Clock ticks since boot: field 22 of `/proc/PID/stat`.
    public let startTime: UInt64

    /// The process that has this number now; nil when none has, or only a dead one waiting for its parent.
    public init?(pid: pid_t) {
        guard pid > 0, let text = Files.read("/proc/\(pid)/stat"), let fields = Self.fields(text),
            fields[0] != "Z", fields[0] != "X", fields.count > 19, let start = UInt64(fields[19])
        else { return nil }
        self.pid = pid
        self.startTime = start
    }

    /// The fields after the program's name, which may hold anything.
    private static func fields(_ stat: String) -> [Substring]? {
        guard let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        return fields.isEmpty ? nil : fields
    }

    public var isAlive: Bool { ProcessIdentity(pid: self.pid) == self }

    /// The process that a pid file names, if it is still the same one.
    static func read(_ path: String) -> ProcessIdentity? {
        guard let words = Files.read(path)?.split(whereSeparator: { $0 == " " || $0 == "\n" }), words.count == 2,
            let pid = pid_t(words[0]), let start = UInt64(words[1]), let now = ProcessIdentity(pid: pid),
            now.startTime == start
        else { return nil }
        return now
    }

    func write(_ path: String) throws { try Files.write("\(self.pid) \(self.startTime)\n", to: path, mode: 0o644) }

    /// Its command line.
    static func arguments(of pid: pid_t) -> [String] {
        (Files.read("/proc/\(pid)/cmdline") ?? "").split(separator: "\0").map(String.init)
    }

    /// Living processes that were started with `internal ROLE FILE`: ours by the file they were given, also when their
    /// pid file is lost.
    static func started(role: String, with file: String) -> [ProcessIdentity] {
        let numbers = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { pid_t($0) }
        return numbers.filter { pid in
            let arguments = self.arguments(of: pid)
            return arguments.count >= 4 && Array(arguments.suffix(3)) == ["internal", role, file]
        }.compactMap { ProcessIdentity(pid: $0) }
    }

    /// Asks it to end, waits, and kills it when it does not.
    func end(within limit: Duration) async {
        guard self.isAlive else { return }
        kill(self.pid, SIGTERM)
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            if !self.isAlive { return }
            try? await Task.sleep(for: .milliseconds(10))
        }
        guard self.isAlive else { return }
        kill(self.pid, SIGKILL)
        while self.isAlive { try? await Task.sleep(for: .milliseconds(10)) }
    }
}
