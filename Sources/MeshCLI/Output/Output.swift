import Foundation

/// Where a command's lines go: results to standard output, everything about the way there to standard error. Tests
/// collect them instead.
package struct Output: Sendable {
    package let line: @Sendable (String) -> Void
    package let notice: @Sendable (String) -> Void

    package init(line: @escaping @Sendable (String) -> Void, notice: @escaping @Sendable (String) -> Void) {
        self.line = line
        self.notice = notice
    }

    package static var standard: Output {
        let terminal = Terminal()
        return Output(line: { print($0) }, notice: { terminal.plain($0) })
    }

    package func done(_ text: String) { self.line("✅ " + text) }
    package func warn(_ text: String) { self.notice("⚠️ " + text) }
}
