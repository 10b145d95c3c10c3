internal import MeshLinux

/// The `nft` program, run in the network namespace of the calling thread.
enum Nftables {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Applies a ruleset as one transaction: all of it or nothing.
    static func apply(_ text: String) throws {
        let output = try Self.run(["nft", "-f", "-"], input: text)
        if output.exitCode != 0 { throw Failure(description: "nft refused the rules: \(Self.reason(output))") }
    }

    /// What the kernel has, without counters, in nft's own words; nil when there is no such table.
    static func list(table: String) throws -> String? {
        let output = try Self.run(["nft", "-s", "list", "table", "inet", table])
        if output.exitCode == 0 { return output.standardOutput }
        if output.standardError.contains("No such file or directory") { return nil }
        throw Failure(description: "nft cannot list table \(table): \(Self.reason(output))")
    }

    /// One set as JSON; nil when there is no such set.
    static func listSet(_ set: String, table: String) throws -> String? {
        let output = try Self.run(["nft", "-j", "list", "set", "inet", table, set])
        if output.exitCode == 0 { return output.standardOutput }
        if output.standardError.contains("No such file or directory") { return nil }
        throw Failure(description: "nft cannot list set \(set): \(Self.reason(output))")
    }

    private static func run(_ arguments: [String], input: String = "") throws -> Program.Output {
        do {
            return try Program.run(arguments, input: input)
        } catch  where error.isNotFound {
            throw Failure(description: "the program nft is missing; install nftables 1.0 or newer")
        }
    }

    /// The first line; nft repeats the offending rule below it.
    private static func reason(_ output: Program.Output) -> String {
        let line = output.standardError.split(separator: "\n").first.map(String.init) ?? ""
        return line.isEmpty ? "exit code \(output.exitCode)" : line
    }
}
