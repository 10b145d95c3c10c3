import Foundation

/// `martlet lab ...` is another program, `martlet-lab`, so that production images need not carry it.
public enum LabHandover {
    /// Replaces this process with `martlet-lab`, which lies beside it (or in the PATH).
    public static func run(_ arguments: [String]) -> Never {
        let own =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let beside = URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent("martlet-lab").path
        var vector = (["martlet-lab"] + arguments).map { strdup($0) } + [nil]
        // The runtime's threads block signals, and a program inherits the mask of the thread that becomes it.
        var none = sigset_t()
        sigemptyset(&none)
        sigprocmask(SIG_SETMASK, &none, nil)
        execv(beside, &vector)
        execvp("martlet-lab", &vector)
        FileHandle.standardError.write(
            Data(
                "martlet lab: cannot start \(beside): \(String(cString: strerror(errno))); is the lab installed?\n".utf8
            ))
        exit(1)
    }
}
