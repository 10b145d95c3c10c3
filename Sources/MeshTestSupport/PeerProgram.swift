package import Foundation
internal import MeshLinux

/// A program of another project that a test talks to.
package enum PeerProgram {
    /// Where `name` is: on the path, or among the tools that scripts/prepare.sh brings.
    package static func find(_ name: String) -> String? {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return (path.split(separator: ":").map { "\($0)/\(name)" } + ["\(root.path)/.tools/bin/\(name)"])
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// Runs to the end, half a minute at most; standard input is empty.
    ///
    /// - Returns: standard output, then standard error.
    package static func run(_ path: String, _ arguments: [String], in folder: PeerFolder) async throws -> String {
        let command = ["env", "--chdir=\(folder.url.path)", path] + arguments
        return try await offThread {
            let output = try Program.run(command, timeout: .seconds(30))
            return output.standardOutput + output.standardError
        }
    }
}

/// A folder with `chain.pem`, `key.pem` and `roots.pem`, gone with its owner.
package final class PeerFolder: Sendable {
    package let url: URL

    package init(_ issued: TestCA.Issued) throws {
        self.url = FileManager.default.temporaryDirectory.appending(path: "martlet-peer-\(UUID())")
        try FileManager.default.createDirectory(at: self.url, withIntermediateDirectories: true)
        try self.write("chain.pem", issued.chain.map { Self.pem("CERTIFICATE", $0) }.joined())
        try self.write("key.pem", Self.pem("PRIVATE KEY", issued.privateKey))
        try self.write("roots.pem", issued.roots.map { Self.pem("CERTIFICATE", $0) }.joined())
    }

    deinit { try? FileManager.default.removeItem(at: self.url) }

    package func write(_ name: String, _ text: String) throws {
        try text.write(to: self.url.appending(path: name), atomically: true, encoding: .utf8)
    }

    private static func pem(_ label: String, _ der: [UInt8]) -> String {
        "-----BEGIN \(label)-----\n\(Data(der).base64EncodedString(options: .lineLength64Characters))\n"
            + "-----END \(label)-----\n"
    }
}
