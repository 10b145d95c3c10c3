import Foundation
import Synchronization

/// What a person sees: progress to stderr, one line per event, coloured only on a terminal.
package final class Terminal: Sendable {
    private let hasColour: Bool
    private let started = ContinuousClock.now
    private let lastLine = Mutex("")

    package init(environment: [String: String] = ProcessInfo.processInfo.environment) {
        self.hasColour = isatty(STDERR_FILENO) == 1 && environment["NO_COLOR"] == nil
    }

    private func paint(_ text: String, _ code: String) -> String {
        self.hasColour ? "\u{1b}[\(code)m\(text)\u{1b}[0m" : text
    }

    /// A repeated progress line is printed once.
    private func write(_ line: String) {
        let isNew = self.lastLine.withLock { last in
            defer { last = line }
            return last != line
        }
        if isNew { FileHandle.standardError.write(Data((line + "\n").utf8)) }
    }

    package func done(_ text: String) { self.write(self.paint("✔ ", "32") + text) }
    package func failed(_ text: String) { self.write(self.paint("✘ ", "31") + text) }
    package func progress(_ text: String) { self.write(self.paint("- ", "33") + text) }
    package func warn(_ text: String) { self.write("❗ " + text) }
    package func plain(_ text: String) { self.write(text) }

    /// Asks a yes-or-no question; anything but `y` or `yes` is no, and so is the end of input.
    package func confirm(_ question: String) -> Bool {
        FileHandle.standardError.write(Data((question + " (y/N) ").utf8))
        guard let answer = readLine() else { return false }
        return ["y", "yes"].contains(answer.lowercased())
    }
}

extension Duration {
    /// `4.2s`, `1m03s`.
    package var brief: String {
        let seconds = Double(self.components.seconds) + Double(self.components.attoseconds) / 1e18
        if seconds < 60 { return String(format: "%.1fs", seconds) }
        return String(format: "%dm%02ds", Int(seconds) / 60, Int(seconds) % 60)
    }
}
