internal import ArgumentParser
internal import Foundation
internal import KubeAPI
internal import LabNode

struct ImageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Images that pods of a cluster can run.", subcommands: [Import.self, List.self])

    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "import", abstract: "Make programs of this machine available as an image.",
            discussion: "martlet lab image import --host docker.io/acme/api='/opt/acme/api --port=80'")

        @Argument(help: "Image archives.")
        var files: [String] = []
        @Option(name: .customLong("host"), help: "NAME=COMMAND: an image that runs a program of this machine.")
        var host: [String] = []
        @Option(name: .shortAndLong, help: "The cluster.")
        var cluster = LabSpec.nameDefault

        func run() async throws {
            try Preflight.checkRoot("martlet lab image import")
            guard !self.files.isEmpty || !self.host.isEmpty else {
                throw ValidationError("nothing to import; wanted --host NAME=COMMAND")
            }
            if let file = self.files.first {
                throw LabError(
                    "cannot import \(file): nodes of the lab run programs of this machine, not image archives; "
                        + "name the program with --host NAME=COMMAND")
            }
            let lab = Lab.current()
            _ = try lab.existing(self.cluster)
            var catalogue = try HostImageFile(lab.paths.images(self.cluster))
            for text in self.host { try catalogue.add(text) }
            try catalogue.save()
            for text in self.host { lab.progress("imported \(text.prefix { $0 != "=" }) into cluster \(self.cluster)") }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Show the images that pods can run.", aliases: ["ls"])
        @Option(name: .shortAndLong, help: "The cluster.")
        var cluster = LabSpec.nameDefault

        func run() async throws {
            let lab = Lab.current()
            _ = try lab.existing(self.cluster)
            let catalogue = try HostImageFile(lab.paths.images(self.cluster))
            // What the lab brings along, and what was imported on top of it.
            var programs = ImageCatalogue.builtIn(installation: ImageCatalogue.installationDirectory()).images
                .mapValues { $0.entrypoint.isEmpty ? $0.command : $0.entrypoint }
            for (name, image) in catalogue.images {
                programs[name] = (image["entrypoint"]?.array ?? []).compactMap(\.string)
            }
            let rows = programs.sorted { $0.key < $1.key }.map { [$0.key, $0.value.first ?? "-"] }
            print(TextTable.render([["IMAGE", "PROGRAM"]] + rows), terminator: "")
        }
    }
}

/// The cluster's own part of the image catalogue, which nodes read: `images.json`.
struct HostImageFile {
    private let path: String
    private(set) var images: [String: JSONValue]

    init(_ path: String) throws(LabError) {
        self.path = path
        guard let text = Files.read(path) else {
            self.images = [:]
            return
        }
        guard let json = try? JSONValue(parsing: text), let images = json["images"]?.object else {
            throw LabError("\(path) is no image catalogue")
        }
        self.images = images
    }

    /// `NAME=PROGRAM ARGUMENT…`, split at spaces.
    mutating func add(_ text: String) throws(LabError) {
        guard let equals = text.firstIndex(of: "=") else { throw LabError("--host \(text): wanted NAME=COMMAND") }
        let words = text[text.index(after: equals)...].split(separator: " ").map(String.init)
        guard let program = words.first, !text.hasPrefix("=") else {
            throw LabError("--host \(text): wanted NAME=COMMAND")
        }
        guard program.hasPrefix("/"), FileManager.default.isExecutableFile(atPath: program) else {
            throw LabError("--host \(text): \(program) is no program; give its absolute path")
        }
        self.images[String(text[..<equals])] = ["entrypoint": JSONValue(words)]
    }

    func save() throws {
        try Files.write(JSONValue.object(["images": .object(self.images)]).description + "\n", to: self.path)
    }
}
