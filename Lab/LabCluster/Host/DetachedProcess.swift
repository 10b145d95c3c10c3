internal import Foundation

/// Starts a process that outlives us: a session of its own, no input, its output in a file, and nothing else of what
/// we have open: our caller may wait for the end of a pipe, or hold a lock, that a cluster must not keep.
enum DetachedProcess {
    /// The descriptor on which the process says that it is ready: it writes a byte, or closes it by dying.
    static let readyDescriptor: CInt = 3

    /// POSIX_SPAWN_SETSID of <spawn.h>, which hides it from the importer behind a feature macro.
    private static let newSession: Int16 = 0x80

    struct Started {
        let identity: ProcessIdentity
        /// Our end of the ready pipe; whoever waits closes it.
        let ready: FileHandle
    }

    static func start(_ arguments: [String], log: String) throws(LabError) -> Started {
        do {
            try FileManager.default.createDirectory(
                atPath: (log as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        } catch {
            throw LabError("cannot make the directory of \(log): \(error)")
        }
        let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
        var pipes: [CInt] = [-1, -1]
        guard output >= 0, input >= 0, pipe(&pipes) == 0 else {
            throw LabError("cannot open \(log): \(String(cString: strerror(errno)))")
        }
        for descriptor in pipes { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        defer { for descriptor in [output, input, pipes[1]] { close(descriptor) } }
        self.keepToOurselves()
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        // A descriptor that is already the wanted one would keep its close-on-exec flag: go through a high number.
        let high = fcntl(pipes[1], F_DUPFD_CLOEXEC, 64)
        defer { close(high) }
        posix_spawn_file_actions_adddup2(&actions, input, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)
        posix_spawn_file_actions_adddup2(&actions, high, Self.readyDescriptor)
        posix_spawnattr_setflags(&attributes, Self.newSession)
        let environment = ["PATH=\(Command.path)", "LC_ALL=C.UTF-8"]
        var pid: pid_t = 0
        // SAFETY: both vectors end in nil and live until the call returns; the strings are freed after it.
        var vector = arguments.map { strdup($0) } + [nil]
        var variables = environment.map { strdup($0) } + [nil]
        let code = posix_spawn(&pid, arguments[0], &actions, &attributes, &vector, &variables)
        for text in vector + variables { free(text) }
        guard code == 0 else {
            close(pipes[0])
            throw LabError("cannot start \(arguments[0]): \(String(cString: strerror(code)))")
        }
        guard let identity = ProcessIdentity(pid: pid) else {
            close(pipes[0])
            throw LabError("\(arguments.joined(separator: " ")) ended at once; its log: \(log)")
        }
        return Started(identity: identity, ready: FileHandle(fileDescriptor: pipes[0], closeOnDealloc: true))
    }

    /// Marks what our caller left open for us: the marks that it lacks are why it is here at all.
    private static func keepToOurselves() {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? [] {
            guard let descriptor = CInt(name), descriptor > STDERR_FILENO else { continue }
            let flags = fcntl(descriptor, F_GETFD)
            if flags >= 0 { _ = fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) }
        }
    }

    /// Called by the started process.
    static func sayReady() {
        let byte: [UInt8] = [1]
        _ = write(self.readyDescriptor, byte, 1)
        close(self.readyDescriptor)
    }

    /// True when the process said that it is ready, false when it died before.
    static func waitUntilReady(_ started: Started) async -> Bool {
        await withCheckedContinuation { continuation in
            // A thread of its own: the read blocks until the process speaks or dies.
            Thread.detachNewThread {
                let answer = started.ready.readData(ofLength: 1)
                continuation.resume(returning: !answer.isEmpty)
            }
        }
    }
}
