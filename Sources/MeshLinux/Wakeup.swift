internal import CMeshLinux
internal import Glibc

/// Ends the wait of a thread that blocks in one of this module's calls. Once signalled it stays signalled.
public final class Wakeup: Sendable {
    let descriptor: CInt

    public init() throws(SystemError) {
        self.descriptor = try checked(cmx_eventfd(), "make an event descriptor")
    }

    deinit { close(self.descriptor) }

    public func signal() {
        var one: UInt64 = 1
        // SAFETY: eight bytes of a local number; a full counter (EAGAIN) is signalled already.
        _ = write(self.descriptor, &one, 8)
    }
}
