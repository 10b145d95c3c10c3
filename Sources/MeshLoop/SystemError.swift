internal import Glibc

/// A system call that failed.
public struct SystemError: Error, Hashable, CustomStringConvertible {
    public let call: String
    /// errno.
    public let code: CInt

    public init(call: String, code: CInt) {
        self.call = call
        self.code = code
    }

    public var description: String { "\(self.call): \(Self.text(self.code))" }

    /// What errno `code` means.
    public static func text(_ code: CInt) -> String { String(cString: strerror(code)) }

    /// Out of descriptors or memory: the same call may succeed later.
    public var isShortage: Bool {
        [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(self.code)
    }

    /// Shim functions answer `-errno`.
    static func check(_ call: String, _ result: CInt) throws(SystemError) -> CInt {
        guard result >= 0 else { throw SystemError(call: call, code: -result) }
        return result
    }
}
