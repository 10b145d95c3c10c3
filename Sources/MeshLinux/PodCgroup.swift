/// Reads a pod's UID out of `/proc/PID/cgroup`.
///
/// Every container runtime puts it into the path, each in its own way: `/kubepods/burstable/pod<uid>/<container>`,
/// `/kubepods.slice/kubepods-pod<uid with underscores>.slice/cri-containerd-<container>.scope` ...
public enum PodCgroup {
    /// Digits per group of a UID.
    private static let groups = [8, 4, 4, 4, 12]

    /// - Parameter text: the file: lines `hierarchy:controllers:path`.
    /// - Returns: the UID with dashes where the path had punctuation (the UID of a static pod has none); nil when there is
    ///   none, or when two lines name different pods.
    public static func podUID(in text: String) -> String? {
        var found: String?
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3, let uid = Self.podUID(inPath: Array(fields[2].utf8)) else { continue }
            if let found, found != uid { return nil }
            found = uid
        }
        return found
    }

    private static func podUID(inPath path: [UInt8]) -> String? {
        let word = Array("pod".utf8)
        var at = 1
        while at + word.count < path.count {
            defer { at += 1 }
            guard Self.isPunctuation(path[at - 1]), path[at..<at + word.count].elementsEqual(word),
                let uid = Self.uid(path[(at + word.count)...])
            else { continue }
            return uid
        }
        return nil
    }

    private static func uid(_ bytes: ArraySlice<UInt8>) -> String? {
        var rest = bytes
        var text: [UInt8] = []
        for (index, digits) in Self.groups.enumerated() {
            if index > 0, let byte = rest.first, Self.isPunctuation(byte) {
                text.append(UInt8(ascii: "-"))
                rest = rest.dropFirst()
            }
            let group = rest.prefix(digits)
            guard group.count == digits, group.allSatisfy(Self.isHexadecimal) else { return nil }
            text += group
            rest = rest.dropFirst(digits)
        }
        if let next = rest.first, !Self.isPunctuation(next) { return nil }
        return String(decoding: text, as: UTF8.self)
    }

    private static func isPunctuation(_ byte: UInt8) -> Bool {
        (0x21...0x2f).contains(byte) || (0x3a...0x40).contains(byte) || (0x5b...0x60).contains(byte)
            || (0x7b...0x7e).contains(byte)
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
    }
}
