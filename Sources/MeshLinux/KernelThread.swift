internal import Glibc

/// Work on an operating-system thread of its own.
///
/// Two kinds of work must not run on the threads that Swift's tasks share: calls that block, and calls that change
/// what a thread is (setns(2) moves one thread, and a task may resume on another). A thread made here ends with its
/// work, so nothing has to be put back afterwards.
public enum KernelThread {
    /// Swift code, JSON and `nft` output included, needs far less; a foreign namespace's thread is short-lived.
    static let stackBytes = 1 << 20

    private final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Starts a thread and forgets it; `body` must end by itself.
    public static func start(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, Self.stackBytes)
        pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        // SAFETY: the new thread takes over the one reference made here; if no thread is made, we give it back.
        let work = Unmanaged.passRetained(Work(body))
        let failed = pthread_create(
            &thread, &attributes,
            { raw in
                Unmanaged<Work>.fromOpaque(raw!).takeRetainedValue().body()
                return nil
            }, work.toOpaque())
        if failed != 0 {
            work.release()
            throw SystemError("start a thread", code: failed)
        }
    }

    /// Runs `body` on a new thread while the calling task waits without holding one.
    public static func perform<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { waiting in
            do throws(SystemError) {
                try Self.start { waiting.resume(with: Result(catching: body)) }
            } catch {
                waiting.resume(throwing: error)
            }
        }
    }

    /// As ``perform(_:)``, for a body that waits: cancelling the task signals the wake-up it is given.
    public static func performCancellable<Value: Sendable>(
        _ body: @escaping @Sendable (Wakeup) throws -> Value
    ) async throws -> Value {
        let wakeup = try Wakeup()
        return try await withTaskCancellationHandler {
            try await Self.perform { try body(wakeup) }
        } onCancel: {
            wakeup.signal()
        }
    }
}
