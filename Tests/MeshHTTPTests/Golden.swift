import MeshHTTP

/// Octets made by other implementations; `Golden/make.py` says how.
enum Golden {
    struct Conversation: Sendable, CustomStringConvertible {
        let role: HTTP2FrameReader.Role
        let maker: String
        let bytes: [UInt8]
        var description: String { "\(self.maker), \(self.bytes.count) octets" }
    }

    struct Block: Sendable {
        let bytes: [UInt8]
        var fields: [[String]] = []
    }

    static let conversations: [Conversation] = Self.lines(PackageResources.conversations_txt).map { line in
        let words = line.split(separator: " ").map(String.init)
        return Conversation(role: words[0] == "server" ? .server : .client, maker: words[1], bytes: hex(words[2]))
    }

    /// Blocks in order, for each connection.
    static let hpack: [[Block]] = {
        var connections: [[Block]] = []
        for line in Self.lines(PackageResources.hpack_python_txt) {
            if line == "connection" {
                connections.append([])
            } else if line.hasPrefix("block ") {
                connections[connections.count - 1].append(Block(bytes: hex(String(line.dropFirst(6)))))
            } else {
                let field = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
                let blocks = connections[connections.count - 1].count
                connections[connections.count - 1][blocks - 1].fields.append(field)
            }
        }
        return connections
    }()

    private static func lines(_ bytes: [UInt8]) -> [String] {
        String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}
