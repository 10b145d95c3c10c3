internal import CMeshLinux
internal import Glibc

/// Small files: whole reads, and writes that nobody ever sees half done.
public enum Files {
    /// - Throws: `EFBIG` for a file longer than `bytesMax`.
    public static func read(_ path: String, bytesMax: Int = 4 << 20) throws(SystemError) -> [UInt8] {
        let descriptor = try checked(cmx_open_for_reading(path), "open \(path)")
        defer { close(descriptor) }
        let bytes = Self.readAll(descriptor, bytesMax: bytesMax + 1)
        if bytes.count > bytesMax { throw SystemError("read \(path)", code: EFBIG) }
        return bytes
    }

    public static func readText(_ path: String) throws(SystemError) -> String {
        String(decoding: try Self.read(path), as: UTF8.self)
    }

    /// Reads to the end, to an error (a process that vanished from /proc) or to the bound.
    static func readAll(_ descriptor: CInt, bytesMax: Int) -> [UInt8] {
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: min(bytesMax, 1 << 16))
        while all.count < bytesMax {
            // SAFETY: at most the array's own count is written.
            let count = part.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            all += part.prefix(min(count, bytesMax - all.count))
        }
        return all
    }

    /// Writes beside the path, syncs, and renames over it. Leftovers of a crashed writer have the form
    /// `PATH.tmp.PID`; ``removeLeftovers(of:)`` clears them.
    public static func writeAtomically(_ bytes: [UInt8], to path: String, mode: UInt32) throws(SystemError) {
        let beside = "\(path).tmp.\(getpid())"
        let descriptor = creat(beside, mode)
        if descriptor < 0 { throw SystemError("create \(beside)", code: errno) }
        do throws(SystemError) {
            defer { close(descriptor) }
            try Self.write(bytes, to: descriptor, beside)
            // creat() honours the umask; the mode is what was asked for.
            if fchmod(descriptor, mode) < 0 || fsync(descriptor) < 0 {
                throw SystemError("finish \(beside)", code: errno)
            }
        } catch {
            unlink(beside)
            throw error
        }
        if Glibc.rename(beside, path) < 0 {
            let code = errno
            unlink(beside)
            throw SystemError("rename \(beside) to \(path)", code: code)
        }
    }

    private static func write(_ bytes: [UInt8], to descriptor: CInt, _ name: String) throws(SystemError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            // SAFETY: reads the slice for the time of the call.
            let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 {
                if errno == EINTR { continue }
                throw SystemError("write \(name)", code: errno)
            }
            rest = rest.dropFirst(written)
        }
    }

    /// Overwrites a file of the kernel (`/proc/sys/...`) in one write.
    public static func writeSetting(_ value: String, to path: String) throws(SystemError) {
        let descriptor = cmx_open_for_writing(path)
        try checked(descriptor, "open \(path)")
        defer { close(descriptor) }
        try Self.write(Array(value.utf8), to: descriptor, path)
    }

    /// Appends, making the file (mode 0600) when it is missing; one call is one write.
    public static func append(_ text: String, to path: String) throws(SystemError) {
        let descriptor = try checked(cmx_open_for_appending(path, 0o600), "open \(path)")
        defer { close(descriptor) }
        try Self.write(Array(text.utf8), to: descriptor, path)
    }

    public static func removeLeftovers(of path: String) {
        let slash = path.lastIndex(of: "/")
        let directory = slash.map { String(path[..<$0]) } ?? "."
        let prefix = (slash.map { String(path[path.index(after: $0)...]) } ?? path) + ".tmp."
        for name in (try? Self.list(directory)) ?? [] where name.hasPrefix(prefix) { unlink("\(directory)/\(name)") }
    }

    /// A file that is missing already is fine.
    public static func remove(_ path: String) throws(SystemError) {
        if unlink(path) < 0, errno != ENOENT { throw SystemError("remove \(path)", code: errno) }
    }

    public static func rename(_ old: String, to new: String) throws(SystemError) {
        if Glibc.rename(old, new) < 0 { throw SystemError("rename \(old) to \(new)", code: errno) }
    }

    /// Makes the directory and those above it.
    public static func makeDirectory(_ path: String) throws(SystemError) {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/\(part)"
            if mkdir(made, 0o755) < 0, errno != EEXIST { throw SystemError("make directory \(made)", code: errno) }
        }
    }

    /// The names in a directory, without `.` and `..`, sorted bytewise.
    public static func list(_ directory: String) throws(SystemError) -> [String] {
        guard let stream = opendir(directory) else { throw SystemError("list \(directory)", code: errno) }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            // SAFETY: d_name is a zero-terminated text inside the entry, which is valid until the next readdir.
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Where a symbolic link points.
    public static func target(ofLink path: String) throws(SystemError) -> String {
        var text = [CChar](repeating: 0, count: Int(PATH_MAX))
        // SAFETY: at most the array's count is written; no zero byte is added.
        let count = readlink(path, &text, text.count)
        if count < 0 { throw SystemError("read link \(path)", code: errno) }
        return String(decoding: text.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    public struct Information: Hashable, Sendable {
        public let isRegular: Bool
        /// Permission bits.
        public let mode: UInt32
        public let byteCount: Int
        /// Changes whenever the content or the attributes change; nanoseconds since 1970.
        public let changedNanoseconds: Int64
        public let inode: UInt64
    }

    /// Nil when there is no such file.
    public static func information(_ path: String) throws(SystemError) -> Information? {
        var found = stat()
        if stat(path, &found) < 0 {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw SystemError("stat \(path)", code: errno)
        }
        return Information(
            isRegular: found.st_mode & S_IFMT == S_IFREG, mode: found.st_mode & 0o7777,
            byteCount: Int(found.st_size),
            changedNanoseconds: Int64(found.st_ctim.tv_sec) * 1_000_000_000 + Int64(found.st_ctim.tv_nsec),
            inode: UInt64(found.st_ino))
    }
}
