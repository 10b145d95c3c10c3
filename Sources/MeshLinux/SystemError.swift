internal import CMeshLinux
internal import Glibc

/// A system call that the kernel refused: what was tried, on what, and the errno.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// For the operator: `open /var/run/netns/a`.
    public let operation: String
    /// A positive errno.
    public let code: CInt

    public init(_ operation: String, code: CInt) {
        self.operation = operation
        self.code = code
    }

    public var description: String {
        // SAFETY: the text is a constant of the C library.
        let text = cmx_describe(self.code).map { String(cString: $0) } ?? "error \(self.code)"
        return "\(self.operation): \(text)"
    }

    public var isNotFound: Bool { self.code == ENOENT }
    public var isTimeout: Bool { self.code == ETIMEDOUT }
    /// Somebody signalled the ``Wakeup`` that was passed to a wait.
    public var isWoken: Bool { self.code == ECANCELED }
    /// Nobody listens at a unix socket's path: no file, or a file that a dead process left.
    public var isNobodyListening: Bool { self.code == ENOENT || self.code == ECONNREFUSED }
}

/// The shims return a negative errno; this turns one into an error.
@discardableResult
func checked<Value: FixedWidthInteger>(
    _ value: Value, _ operation: @autoclosure () -> String
) throws(SystemError) -> Value {
    if value < 0 { throw SystemError(operation(), code: CInt(-Int(value))) }
    return value
}

extension Duration {
    /// Whole milliseconds, rounded up, for poll(2).
    var pollMilliseconds: CInt {
        let (seconds, attoseconds) = self.components
        let total = seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
        return CInt(clamping: max(0, total))
    }
}
