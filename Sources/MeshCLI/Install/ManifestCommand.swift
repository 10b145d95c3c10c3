import ArgumentParser
import Foundation
import KubeAPI
import KubeClient

struct ManifestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "manifest", abstract: "The objects that install applies.", subcommands: [Generate.self])

    struct Generate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the objects as YAML, in an order that kubectl apply can follow.")

        @OptionGroup var input: ValueOptions
        @Option(name: [.short, .long], help: "Write to this file.") var output: String?

        func run() async throws {
            let values = try self.input.values(Terminal())
            var text = ""
            for object in try Components.render(values).flatMap(\.objects) {
                text += "---\n" + (try object.json.yaml)
            }
            if let output {
                try text.write(toFile: output, atomically: true, encoding: .utf8)
            } else {
                print(text, terminator: "")
            }
        }
    }
}
