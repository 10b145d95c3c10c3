internal import Foundation
internal import MeshLinux

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

    /// What a program of the host may take: `ip` and `umount` are done in milliseconds.
    private static let timeout = Duration.seconds(60)

    static func run(_ arguments: [String]) throws(LabError) -> Result {
        guard self.find(arguments[0]) != nil else { throw LabError("\(arguments[0]) is not installed") }
        do {
            let output = try Program.run(arguments, timeout: self.timeout)
            return Result(
                exitCode: Int32(output.exitCode), output: output.standardOutput, error: output.standardError)
        } catch {
            throw LabError("cannot run \(arguments.joined(separator: " ")): \(error)")
        }
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
