internal import Foundation

/// Runs a program of the host to its end.
struct Command {
    struct Result: Sendable {
        var exitCode: Int32
        var output: String
        var error: String
    }

    static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// Where a program is; nil when it is not installed.
    static func find(_ program: String) -> String? {
        self.path.split(separator: ":").map { "\($0)/\(program)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    static func run(_ arguments: [String]) throws(LabError) -> Result {
        guard let program = self.find(arguments[0]) else { throw LabError("\(arguments[0]) is not installed") }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = Array(arguments.dropFirst())
        process.environment = ["PATH": self.path, "LC_ALL": "C"]
        let output = Pipe()
        let error = Pipe()
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = error
        do { try process.run() } catch {
            throw LabError("cannot start \(program): \(error)")
        }
        // The programs we run say little on stderr, so reading one after the other cannot block them.
        let text = output.fileHandleForReading.readDataToEndOfFile()
        let complaint = error.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Result(
            exitCode: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
            error: String(decoding: complaint, as: UTF8.self))
    }

    @discardableResult
    static func check(_ arguments: String...) throws(LabError) -> String {
        let result = try self.run(arguments)
        guard result.exitCode == 0 else {
            let said = result.error.trimmingCharacters(in: .whitespacesAndNewlines)
            throw LabError(
                "\(arguments.joined(separator: " ")): \(said.isEmpty ? "exit code \(result.exitCode)" : said)")
        }
        return result.output
    }
}
