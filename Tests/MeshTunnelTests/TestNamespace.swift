import Foundation
import Glibc
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

    func start(_ command: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["ip", "netns", "exec", self.name] + command
        try process.run()
        return process
    }

    private static func run(_ command: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: output, as: UTF8.self)
    }
}
