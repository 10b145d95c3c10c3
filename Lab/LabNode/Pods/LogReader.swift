package import Foundation

/// Reads a container's log file the way `GET .../log` asks for it.
package struct LogOptions: Hashable, Sendable {
    package var follow = false
    package var timestamps = false
    package var tailLines: Int?
    package var since: Date?
    package var limitBytes: Int?
    /// Only this one of the two streams.
    package var stream: ContainerLog.Stream?

    /// - Parameter query: decoded query items of the request; values that cannot be read count as absent.
    package init(_ query: [(String, String)] = [], now: Date = Date()) {
        for (name, value) in query {
            switch name {
            case "follow": self.follow = value == "true" || value == "1"
            case "timestamps": self.timestamps = value == "true" || value == "1"
            case "tailLines": self.tailLines = Int(value).map { max(0, $0) }
            case "sinceSeconds": self.since = Double(value).map { now.addingTimeInterval(-$0) }
            case "sinceTime": self.since = Timestamp.date(value)
            case "limitBytes": self.limitBytes = Int(value).map { max(0, $0) }
            case "stream": self.stream = ContainerLog.Stream(rawValue: value.lowercased())
            default: break
            }
        }
    }
}

package struct LogReader {
    package let path: String
    package let options: LogOptions
    private var sent = 0
    private var offset: UInt64 = 0
    private var inode: UInt64 = 0
    private var rest: [UInt8] = []

    package init(path: String, _ options: LogOptions) {
        self.path = path
        self.options = options
    }

    /// What the client gets of one stored line: nil when it is filtered away.
    package static func render(_ line: ArraySlice<UInt8>, _ options: LogOptions) -> [UInt8]? {
        let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        if let stream = options.stream, String(decoding: parts[1], as: UTF8.self) != stream.rawValue { return nil }
        if let since = options.since {
            guard let time = Timestamp.date(String(decoding: parts[0], as: UTF8.self)), time >= since else {
                return nil
            }
        }
        var text: [UInt8] = []
        if options.timestamps { text += Array(parts[0]) + [UInt8(ascii: " ")] }
        text += parts[3]
        if parts[2].first == UInt8(ascii: "F") { text.append(UInt8(ascii: "\n")) }
        return text
    }

    /// Everything that is there now: what was rotated away last, then the file; the last `tailLines` of it.
    package mutating func start() -> [UInt8] {
        let rotated = FileManager.default.contents(atPath: "\(self.path).1").map(Array.init) ?? []
        var lines = self.lines(rotated)
        self.rest = []
        lines += self.lines(self.more())
        if let tail = self.options.tailLines { lines = Array(lines.suffix(tail)) }
        return self.limited(lines.flatMap { $0 })
    }

    /// What came since; nil when the limit is reached.
    package mutating func next() -> [UInt8]? {
        if let limit = self.options.limitBytes, self.sent >= limit { return nil }
        return self.limited(self.lines(self.more()).flatMap { $0 })
    }

    private mutating func limited(_ bytes: [UInt8]) -> [UInt8] {
        let allowed = self.options.limitBytes.map { Array(bytes.prefix(max(0, $0 - self.sent))) } ?? bytes
        self.sent += allowed.count
        return allowed
    }

    private mutating func lines(_ bytes: [UInt8]) -> [[UInt8]] {
        self.rest += bytes
        var lines: [[UInt8]] = []
        var at = self.rest.startIndex
        while let end = self.rest[at...].firstIndex(of: UInt8(ascii: "\n")) {
            if let text = Self.render(self.rest[at..<end], self.options) { lines.append(text) }
            at = end + 1
        }
        self.rest.removeFirst(at)
        return lines
    }

    private mutating func more() -> [UInt8] {
        let descriptor = open(self.path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { return [] }
        if UInt64(info.st_ino) != self.inode {
            // Rotated, or the first time. Lines between our last look and the rotation are in the `.1` file.
            self.inode = UInt64(info.st_ino)
            self.offset = 0
        }
        lseek(descriptor, off_t(self.offset), SEEK_SET)
        var all: [UInt8] = []
        while let bytes = readSome(descriptor), !bytes.isEmpty { all += bytes }
        self.offset += UInt64(all.count)
        return all
    }
}
