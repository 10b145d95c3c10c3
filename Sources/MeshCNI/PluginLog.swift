internal import KubeAPI
internal import MeshLinux

/// The plugin's own log, for what the agent cannot log because it was down: one JSON object per line, and one file
/// before it is started anew.
public enum PluginLog {
    static let fileBytesMax = 10 << 20

    /// Failures are ignored: a log must not keep a pod from starting.
    public static func append(_ message: String, input: [UInt8]) {
        guard let json = try? JSONValue(parsing: input), let configuration = try? CNIConfiguration(json) else { return }
        let path = configuration.logPath
        if let found = try? Files.information(path), found.byteCount > Self.fileBytesMax {
            try? Files.rename(path, to: "\(path).1")
        }
        let line: JSONValue = ["time": .string(Clock.utcNow()), "scope": "cni-plugin", "msg": .string(message)]
        try? Files.append("\(line)\n", to: path)
    }
}
