import Foundation

/// A directory whose files change all at once, as the kubelet does it: the files are in a directory with a name of its
/// own, `..data` is a link to it that is replaced by rename(2), and the visible names are links through `..data`.
/// Programs in pods watch for exactly that.
package enum AtomicDirectory {
    /// - Returns: false when the directory already had these contents, and nothing was touched.
    @discardableResult
    package static func write(
        _ files: [String: ProjectedFiles.File], to directory: String, owner: UInt32 = 0, group: UInt32? = nil
    ) throws -> Bool {
        let manager = FileManager.default
        try manager.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let old = try? manager.destinationOfSymbolicLink(atPath: "\(directory)/..data")
        if let old, self.holds(files, "\(directory)/\(old)") { return false }

        let stamp = Int(Date().timeIntervalSince1970)
        let fresh = "..\(stamp).\(UInt32.random(in: 0...UInt32.max))"
        try manager.createDirectory(atPath: "\(directory)/\(fresh)", withIntermediateDirectories: true)
        chmod("\(directory)/\(fresh)", 0o755)
        for (path, file) in files {
            let full = "\(directory)/\(fresh)/\(path)"
            try manager.createDirectory(
                atPath: (full as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
            try writeBytes(file.bytes, to: full, mode: file.mode)
            chmod(full, file.mode | (group == nil ? 0 : 0o040))
            chown(full, owner, group ?? 0)
        }
        let pending = "\(directory)/..data_tmp"
        unlink(pending)
        try manager.createSymbolicLink(atPath: pending, withDestinationPath: fresh)
        guard rename(pending, "\(directory)/..data") == 0 else {
            throw SystemError("replacing \(directory)/..data", code: errno)
        }
        let tops = Set(files.keys.map { String($0.prefix { $0 != "/" }) })
        for name in try manager.contentsOfDirectory(atPath: directory) where !name.hasPrefix("..") {
            if !tops.contains(name) { unlink("\(directory)/\(name)") }
        }
        for name in tops where (try? manager.destinationOfSymbolicLink(atPath: "\(directory)/\(name)")) == nil {
            try manager.createSymbolicLink(atPath: "\(directory)/\(name)", withDestinationPath: "..data/\(name)")
        }
        if let old { try? manager.removeItem(atPath: "\(directory)/\(old)") }
        return true
    }

    private static func holds(_ files: [String: ProjectedFiles.File], _ directory: String) -> Bool {
        guard let paths = FileManager.default.subpaths(atPath: directory) else { return false }
        let present = paths.filter {
            var isDirectory: ObjCBool = false
            return FileManager.default.fileExists(atPath: "\(directory)/\($0)", isDirectory: &isDirectory)
                && !isDirectory.boolValue
        }
        return Set(present) == Set(files.keys)
            && files.allSatisfy { path, file in
                FileManager.default.contents(atPath: "\(directory)/\(path)").map(Array.init) == file.bytes
            }
    }
}
