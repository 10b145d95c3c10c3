import MeshLinux
import Testing

@Suite("Memory that a process gives back")
struct ProcessMemoryTests {
    private static func mapping(_ range: String, _ permissions: String, _ path: String, anonymous: Int) -> String {
        """
        \(range) \(permissions) 00001000 fe:00 1234                       \(path)
        Size:               1368 kB
        Rss:                1176 kB
        Anonymous:          \(anonymous) kB
        VmFlags: rd ex mr mw me
        """
    }

    @Test("programs and libraries that were never written to")
    func programs() {
        let smaps = [
            Self.mapping("1000-3000", "r-xp", "/bin/program", anonymous: 0),
            Self.mapping("7ffd0000-7ffe0000", "r-xp", "/lib/a name.so", anonymous: 0),
        ].joined(separator: "\n")
        #expect(ProcessMemory.unwrittenPrograms(in: smaps) == [0x1000..<0x3000, 0x7ffd_0000..<0x7ffe_0000])
    }

    @Test(
        "nothing that has content of its own",
        arguments: [
            ("rw-p", "/bin/program", 0), ("r--p", "/bin/program", 0), ("r-xs", "/bin/program", 0),
            ("r-xp", "/bin/program", 4), ("r-xp", "[vdso]", 0), ("rwxp", "/bin/program", 0), ("r-xp", "", 0),
        ])
    func others(permissions: String, path: String, anonymous: Int) {
        let smaps = Self.mapping("1000-3000", permissions, path, anonymous: anonymous)
        #expect(ProcessMemory.unwrittenPrograms(in: smaps) == [])
    }

    @Test(
        "a text that is no list of mappings",
        arguments: ["", "Anonymous: 0 kB", "3000-1000 r-xp 0 0 0 /a\nAnonymous: 0 kB"])
    func noList(text: String) {
        #expect(ProcessMemory.unwrittenPrograms(in: text) == [])
    }

    @Test("the process goes on as before")
    func goesOn() {
        let before = (0..<1000).map { "\($0)" }
        ProcessMemory.giveBack()
        #expect((0..<1000).map { "\($0)" } == before)
    }
}
