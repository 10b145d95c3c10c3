public import ArgumentParser
internal import Foundation

/// `martlet lab`: the verbs of `k3d cluster`, with and without the word `cluster`.
public struct LabCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "martlet lab", abstract: "Kubernetes clusters on this machine, made of network namespaces.",
        discussion: "Takes the commands and options of k3d: martlet lab create --agents 4",
        subcommands: [
            CreateCommand.self, DeleteCommand.self, ListCommand.self, StartCommand.self, StopCommand.self,
            KubeconfigCommand.self, NodeCommand.self, ExecCommand.self, ImageCommand.self, ClusterCommand.self,
            InternalCommand.self,
        ])

    public init() {}

    /// Parses, runs and exits; k3d's `--flag=true` is understood.
    public static func start(_ arguments: [String]) async {
        await self.main(BooleanFlags.normalized(arguments))
    }
}

/// `martlet lab cluster …`
struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "The same commands, as k3d spells them.",
        subcommands: [
            CreateCommand.self, DeleteCommand.self, ListCommand.self, StartCommand.self, StopCommand.self,
        ])
}

/// k3d's boolean flags take a value with `=`; ours are `--flag` and `--no-flag`.
package enum BooleanFlags {
    static let names: Set = ["wait", "kubeconfig-update-default", "kubeconfig-switch-context"]

    package static func normalized(_ arguments: [String]) -> [String] {
        var result: [String] = []
        for (index, argument) in arguments.enumerated() {
            if argument == "--" {
                result += arguments[index...]
                break
            }
            guard argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") else {
                result.append(argument)
                continue
            }
            let name = String(argument[..<equals].dropFirst(2))
            switch (self.names.contains(name), String(argument[argument.index(after: equals)...])) {
            case (true, "true"): result.append("--\(name)")
            case (true, "false"): result.append("--no-\(name)")
            default: result.append(argument)
            }
        }
        return result
    }
}

extension Lab {
    /// Of this process: progress goes to standard error, results to standard output.
    static func current() -> Lab {
        Lab(environment: ProcessInfo.processInfo.environment) { line in
            FileHandle.standardError.write(Data("\(line)\n".utf8))
        }
    }
}

/// How long something may take, as k3d and Go write it: `60s`, `2m`, `1m30s`.
struct GoDuration: ExpressibleByArgument {
    var duration: Duration

    init?(argument: String) {
        var total = 0.0
        var digits = ""
        var rest = argument[...]
        guard !rest.isEmpty else { return nil }
        while let character = rest.first {
            if character.isNumber || character == "." {
                digits.append(character)
                rest = rest.dropFirst()
                continue
            }
            let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)]
            guard let unit = units.first(where: { rest.hasPrefix($0.0) }), let number = Double(digits) else {
                return nil
            }
            total += number * unit.1
            digits = ""
            rest = rest.dropFirst(unit.0.count)
        }
        guard digits.isEmpty, total.isFinite, total > 0, total < 86_400 else { return nil }
        self.duration = .milliseconds(Int64(total * 1_000))
    }
}

/// A table: upper-case headers, columns as wide as their widest cell.
enum TextTable {
    static func render(_ rows: [[String]]) -> String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            let cells = row.enumerated().map { index, cell in
                index == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] - cell.count + 3)
            }
            return cells.joined() + "\n"
        }.joined()
    }
}
