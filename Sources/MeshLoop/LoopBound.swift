/// Carries something that lives on a loop through code that may run anywhere. Opening it elsewhere than on the loop
/// ends the process: that would be a data race.
// @unchecked: `value` can only be reached on the loop's thread.
public struct LoopBound<Value>: @unchecked Sendable {
    private let stored: Value
    public let loop: EventLoop

    public init(_ value: Value, loop: EventLoop) {
        self.stored = value
        self.loop = loop
    }

    public var value: Value {
        precondition(self.loop.isCurrent, "touched outside its event loop")
        return self.stored
    }

    /// Runs `body` with the value on the loop's thread, soon.
    public func execute(_ body: @escaping @Sendable (Value) -> Void) {
        self.loop.execute { body(self.value) }
    }
}
