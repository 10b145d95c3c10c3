internal import Glibc

/// What was wrong with the command line or a file, in words for whoever typed it.
struct BenchError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }

    static let usage = """
        usage: martlet-bench outbound --peer IP:PORT --peer-identity URI (--forward IP:PORT=IP:PORT | --capture IP:PORT)...
                             --identity URI --cert FILE --key FILE --ca FILE [--loops N]
                             [--streams-per-tunnel N]
               martlet-bench waypoint --listen IP:PORT --service IP:PORT --peer IP:PORT --peer-identity URI
                             --identity URI --cert FILE --key FILE --ca FILE [--loops N]
               martlet-bench inbound --listen IP:PORT --identity URI --cert FILE --key FILE --ca FILE [--loops N]
        """
}

/// Errors go to standard error with the program's name, like any tool's.
func complain(_ text: String) {
    let line = Array("martlet-bench: \(text)\n".utf8)
    // SAFETY: the array lives across the call. A closed standard error is nobody's loss.
    _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
}
