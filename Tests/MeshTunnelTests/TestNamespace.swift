import Foundation
import Glibc
import MeshLinux
import Testing

/// A network namespace with loopback up, removed by the test.
final class TestNamespace: Sendable {
    static var isPossible: Bool {
        getuid() == 0
            && ["/usr/bin/socat", "/usr/sbin/ip", "/usr/bin/ss"].allSatisfy {
                FileManager.default.isExecutableFile(atPath: $0)
                    || FileManager.default.isExecutableFile(atPath: $0.replacingOccurrences(of: "/usr", with: ""))
            }
    }

    let name = "mlt-\(UInt32.random(in: 0 ... .max))"
    private let handle: FileHandle
    var descriptor: CInt { self.handle.fileDescriptor }

    init() throws {
        _ = try Self.run(["ip", "netns", "add", self.name])
        self.handle = try #require(FileHandle(forReadingAtPath: "/run/netns/\(self.name)"))
        _ = try self.output(["ip", "link", "set", "lo", "up"])
    }

    func remove() { _ = try? Self.run(["ip", "netns", "del", self.name]) }

    /// Runs a program inside and returns what it wrote.
    func output(_ command: [String]) throws -> String {
        try Self.run(["ip", "netns", "exec", self.name] + command)
    }

    /// Starts a program inside, which goes on until the test kills it.
    /// - Returns: its process id.
    func start(_ command: [String]) throws -> pid_t {
        let words = (["ip", "netns", "exec", self.name] + command).map { "'\($0)'" }.joined(separator: " ")
        let said = try Self.run(["sh", "-c", "\(words) </dev/null >/dev/null 2>&1 & echo $!"])
        return try #require(pid_t(said.filter { !$0.isWhitespace }))
    }

    /// Not Foundation's `Process`: it walks the table of descriptors, which other tests change meanwhile.
    private static func run(_ command: [String]) throws -> String { try Program.run(command).standardOutput }
}
