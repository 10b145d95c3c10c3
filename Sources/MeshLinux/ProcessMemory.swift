internal import CMeshLinux
internal import Glibc

/// Gives back what this process has in memory and does not need any more.
public enum ProcessMemory {
    /// A process has a few hundred mappings, each described in about 600 bytes.
    static let mappingsBytesMax = 4 << 20

    /// Free pages of the heap, and all pages of programs and libraries that were never written to.
    ///
    /// The kernel maps sixteen pages around each one that is touched, so that a start which walks through 30 MB of
    /// program leaves 35 MB resident, most of it never used again. What is used again comes back from the page cache
    /// with a minor fault (half a microsecond for sixteen pages).
    public static func giveBack() {
        cmx_trim_heap()
        guard let description = try? Files.read("/proc/self/smaps", bytesMax: Self.mappingsBytesMax) else { return }
        for range in Self.unwrittenPrograms(in: String(decoding: description, as: UTF8.self)) {
            guard let start = UnsafeMutableRawPointer(bitPattern: range.lowerBound) else { continue }
            // SAFETY: a private mapping of a file that may not be written to and has no page of its own (`Anonymous: 0`):
            // each page that goes comes back from the file with the same content, on any thread, whenever it is touched.
            // A failure leaves everything as it is.
            _ = madvise(start, range.count, MADV_DONTNEED)
        }
    }

    /// Executable, private, not writable mappings of files none of whose pages is a copy, from the text of
    /// `/proc/PID/smaps` (proc_pid_smaps(5)).
    package static func unwrittenPrograms(in smaps: String) -> [Range<UInt>] {
        var found: [Range<UInt>] = []
        var candidate: Range<UInt>?
        for line in smaps.split(separator: "\n") {
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            if let range = fields.first.flatMap(Self.addresses) {
                // Addresses, permissions, offset, device, inode, path.
                candidate = fields.count >= 6 && fields[1] == "r-xp" && fields[5].first == "/" ? range : nil
            } else if fields.first == "Anonymous:", fields.count >= 2, let range = candidate {
                if fields[1] == "0" { found.append(range) }
                candidate = nil
            }
        }
        return found
    }

    /// `55d27228f000-55d27414e000`
    private static func addresses(_ text: Substring) -> Range<UInt>? {
        let ends = text.split(separator: "-")
        guard ends.count == 2, let low = UInt(ends[0], radix: 16), let high = UInt(ends[1], radix: 16), low < high
        else { return nil }
        return low..<high
    }
}
