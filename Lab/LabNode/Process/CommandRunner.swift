import CLabNode
import Foundation

/// A program that failed: what was run, how it ended, and what it said.
package struct CommandError: Error, CustomStringConvertible {
    package var arguments: [String]
    package var exit: ProcessExit
    package var output: String

    package var description: String {
        let said = self.output.trimmingCharacters(in: .whitespacesAndNewlines)
        let command = self.arguments.prefix(4).joined(separator: " ")
        return "\(command): exit code \(self.exit.code)" + (said.isEmpty ? "" : ": \(said)")
    }
}

/// Runs programs of the host (ip, nft, runc, CNI plugins) to their end and collects what they say.
package struct CommandRunner: Sendable {
    package init(processes: ProcessTable, networkNamespace: Int32?) {
        self.processes = processes
        self.networkNamespace = networkNamespace
    }

    package struct Result: Sendable {
        package var exit: ProcessExit
        package var output: [UInt8]
        package var error: [UInt8]
        package var text: String { String(decoding: self.output, as: UTF8.self) }
        package var errorText: String { String(decoding: self.error, as: UTF8.self) }
    }

    /// What is kept of one stream; the rest is read and dropped.
    package static let outputBytesMax = 4 << 20
    package static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    package let processes: ProcessTable
    /// The node's network namespace; nil when this process is in it.
    package let networkNamespace: Int32?

    /// - Parameters:
    ///   - deadline: the program is killed then, and the result is its death by signal 9.
    package func run(
        _ arguments: [String], environment: [String: String] = [:], input: [UInt8] = [],
        deadline: Duration = .seconds(60)
    ) async throws -> Result {
        let (inputRead, inputWrite) = try Self.pipe()
        let (outputRead, outputWrite) = try Self.pipe()
        let (errorRead, errorWrite) = try Self.pipe()
        let child: ProcessTable.Child
        do {
            defer { for descriptor in [inputRead, outputWrite, errorWrite] { close(descriptor) } }
            child = try self.processes.spawn(
                arguments, environment: ["PATH": Self.path, "LC_ALL": "C"].merging(environment) { $1 },
                streams: .init(input: inputRead, output: outputWrite, error: errorWrite),
                networkNamespace: self.networkNamespace)
        } catch {
            for descriptor in [inputWrite, outputRead, errorRead] { close(descriptor) }
            throw error
        }
        let watchdog = Task {
            try await Task.sleep(for: deadline)
            child.signal(SIGKILL)
        }
        defer { watchdog.cancel() }
        async let output = Self.drain(outputRead)
        async let error = Self.drain(errorRead)
        await Self.blocking {
            writeAll(inputWrite, input)
            close(inputWrite)
        }
        return Result(exit: await child.exit, output: await output, error: await error)
    }

    /// Runs a program that must succeed.
    @discardableResult
    package func check(
        _ arguments: [String], environment: [String: String] = [:], input: [UInt8] = [],
        deadline: Duration = .seconds(60)
    ) async throws -> Result {
        let result = try await self.run(arguments, environment: environment, input: input, deadline: deadline)
        if result.exit.code != 0 {
            throw CommandError(
                arguments: arguments, exit: result.exit,
                output: result.error.isEmpty ? result.text : result.errorText)
        }
        return result
    }

    package static func pipe() throws -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        let code = clabnode_pipe(&ends)
        if code < 0 { throw SystemError("making a pipe", code: -code) }
        return (ends[0], ends[1])
    }

    /// Runs blocking work away from the cooperative threads.
    package static func blocking<R: Sendable>(_ body: @escaping @Sendable () -> R) async -> R {
        await withCheckedContinuation { continuation in
            let thread = Thread { continuation.resume(returning: body()) }
            thread.stackSize = 256 * 1024
            thread.start()
        }
    }

    private static func drain(_ descriptor: Int32) async -> [UInt8] {
        await self.blocking {
            defer { close(descriptor) }
            var all: [UInt8] = []
            while let bytes = readSome(descriptor) {
                all += bytes.prefix(max(0, self.outputBytesMax - all.count))
            }
            return all
        }
    }
}

/// Reads up to 32 KiB, waiting for the first byte; nil at the end or on an error.
package func readSome(_ descriptor: Int32) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 32768)
    while true {
        let count = read(descriptor, &buffer, buffer.count)
        if count > 0 { return Array(buffer[..<count]) }
        if count < 0, errno == EINTR { continue }
        return nil
    }
}

/// Writes everything, waiting as needed; false when the reader is gone.
@discardableResult
package func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count < 0 {
            if errno == EINTR { continue }
            return false
        }
        rest = rest.dropFirst(count)
    }
    return true
}
