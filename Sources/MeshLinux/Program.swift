internal import CMeshLinux
internal import Glibc

/// Runs a program of the system to its end: `nft` above all.
public struct Program: Sendable {
    public struct Output: Hashable, Sendable {
        /// The exit code; 128 + signal for a program that was killed.
        public let exitCode: Int
        public let standardOutput, standardError: String

        public init(exitCode: Int, standardOutput: String, standardError: String) {
            self.exitCode = exitCode
            self.standardOutput = standardOutput
            self.standardError = standardError
        }
    }

    /// More output than this is cut off; a listing of our own table has about 4 KiB.
    static let outputBytesMax = 4 << 20

    /// Runs in the namespaces of the calling thread, which blocks meanwhile.
    /// - Parameter arguments: the program first, found in the system's usual directories.
    /// - Throws: `ENOENT` when there is no such program; a timeout after the program was killed.
    public static func run(
        _ arguments: [String], input: String = "", timeout: Duration = .seconds(10)
    ) throws(SystemError) -> Output {
        var status: CInt = 0
        var out: CInt = -1
        var err: CInt = -1
        let bytes = Array(input.utf8)
        // SAFETY: the argument texts are copied, live until the program has ended, and are freed once.
        var texts = arguments.map { UnsafePointer(strdup($0)) }
        defer { for text in texts { free(UnsafeMutablePointer(mutating: text)) } }
        texts.append(nil)
        let failed = bytes.withUnsafeBytes { given in
            cmx_run_program(texts, given.baseAddress, given.count, timeout.pollMilliseconds, &status, &out, &err)
        }
        try checked(failed, "run \(arguments.first ?? "nothing")")
        defer {
            close(out)
            close(err)
        }
        let signal = status & 0x7f
        return Output(
            exitCode: Int(signal == 0 ? status >> 8 & 0xff : 128 + signal),
            standardOutput: String(decoding: Files.readAll(out, bytesMax: Self.outputBytesMax), as: UTF8.self),
            standardError: String(decoding: Files.readAll(err, bytesMax: 1 << 16), as: UTF8.self))
    }

    /// Starts a program that runs beside us. Whoever starts it waits for its end, with `waitpid`.
    /// - Parameters:
    ///   - arguments: the program first, found in the directories of `PATH`.
    ///   - environment: `NAME=VALUE` each.
    ///   - isQuiet: its output goes nowhere instead of to ours. It has no input.
    /// - Returns: its process id.
    public static func start(
        _ arguments: [String], environment: [String], in directory: String, isQuiet: Bool
    ) throws(SystemError) -> Int32 {
        var pid: Int32 = 0
        // SAFETY: the texts are copied, live until the call returns, and are freed once.
        var texts = arguments.map { UnsafePointer(strdup($0)) } + [nil]
        var variables = environment.map { UnsafePointer(strdup($0)) } + [nil]
        defer { for text in texts + variables { free(UnsafeMutablePointer(mutating: text)) } }
        try checked(
            cmx_start_program(&texts, &variables, directory, isQuiet, &pid), "start \(arguments.first ?? "nothing")")
        return pid
    }
}
