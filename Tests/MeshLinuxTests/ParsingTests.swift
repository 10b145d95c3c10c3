import MeshLinux
import Testing

@Suite("A pod's UID in a cgroup file")
struct PodCgroupTests {
    @Test(
        "is found in the forms of every runtime",
        arguments: [
            (
                "0::/kubepods/burstable/pod1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11/3f2a",
                "1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11"
            ),
            (
                "0::/kubepods.slice/kubepods-pod1d8b6f0e_3c0f_4c61_b7a4_2f6a4c8f8a11.slice/cri-containerd-3f2a.scope",
                "1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11"
            ),
            ("12:pids:/kubepods/pod1d8b6f0e3c0f4c61b7a42f6a4c8f8a11/3f2a", "1d8b6f0e3c0f4c61b7a42f6a4c8f8a11"),
            (
                "4:cpu:/x/pod1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11/3f\n3:memory:/\n0::/",
                "1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11"
            ),
        ])
    func found(text: String, uid: String) {
        #expect(PodCgroup.podUID(in: text) == uid)
    }

    @Test(
        "is not guessed",
        arguments: [
            "", "0::/", "0::/system.slice/podman.service", "0::/kubepods/pod1d8b6f0e-3c0f/3f",
            "0::/kubepods/podXd8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11/3f",
            "0::/kubepods/xpod1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11/3f",
            "0::/kubepods/pod1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11aa/3f",
            "1:a:/pod1d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11/3f\n2:b:/pod2d8b6f0e-3c0f-4c61-b7a4-2f6a4c8f8a11/3f",
        ])
    func absent(text: String) {
        #expect(PodCgroup.podUID(in: text) == nil)
    }
}

@Suite("Files of /proc")
struct ProcFileTests {
    @Test("a start time is read behind any name")
    func startTime() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1"
        #expect(ProcessTable.startTime(stat) == 987654)
        #expect(ProcessTable.startTime("42 (a) S 1") == nil)
    }

    @Test("a socket table counts connections with a process behind them")
    func sockets() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:3A99 0400000A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 77 1 0 20
               1: 0100007F:3A99 0100007F:9C41 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
               2: 00000000:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 78 1 0
               3: 0400000A:1F90 0500000A:9C42 04 00000000:00000000 00:00000000 00000000     0        0 0 1 0
            """
        let sockets = SocketTable.parse(table)
        #expect(sockets.map(\.localPort) == [15001, 15001, 15001, 8080])
        #expect(sockets.map(\.isLive) == [true, false, false, false])
        #expect(sockets.map(\.isRemoteLoopback) == [false, true, false, false])
    }
}

@Suite("Files")
struct FileTests {
    @Test("are replaced whole, with the mode asked for")
    func atomic() throws {
        let directory = "/tmp/files-test-\(UInt32.random(in: 0...(.max)))"
        try Files.makeDirectory(directory)
        let path = "\(directory)/a"
        defer { _ = try? Program.run(["rm", "-r", directory]) }
        try Files.writeAtomically([1], to: path, mode: 0o640)
        try Files.writeAtomically([2, 3], to: path, mode: 0o600)
        #expect(try Files.read(path) == [2, 3])
        #expect(try Files.information(path)?.mode == 0o600)
        #expect(try Files.list(directory) == ["a"], "nothing is left beside it")
        try Files.writeAtomically([9], to: "\(path).tmp.1", mode: 0o600)
        Files.removeLeftovers(of: path)
        #expect(try Files.list(directory) == ["a"])
        #expect(throws: SystemError.self) { try Files.read(path, bytesMax: 1) }
    }
}

@Suite("A program")
struct ProgramTests {
    @Test("gets its input and gives both outputs and its exit code")
    func run() throws {
        let output = try Program.run(["sh", "-c", "cat; echo oops >&2; exit 3"], input: "hello")
        #expect(output == Program.Output(exitCode: 3, standardOutput: "hello", standardError: "oops\n"))
    }

    @Test("that does not end is killed")
    func timeout() {
        #expect { try Program.run(["sleep", "60"], timeout: .milliseconds(50)) } throws: { error in
            (error as? SystemError)?.isTimeout == true
        }
    }

    @Test("that does not exist is an error")
    func missing() {
        #expect { try Program.run(["no-such-program-here"]) } throws: { error in
            (error as? SystemError)?.isNotFound == true
        }
    }
}
