/// How much may still be sent in one direction of a stream or connection (RFC 9113 section 6.9).
///
/// 31 bits and a sign: a smaller INITIAL_WINDOW_SIZE can take a stream's window below zero.
package struct FlowWindow: Hashable, Sendable {
    /// The window would leave -(2^31) to 2^31-1; FLOW_CONTROL_ERROR for the stream or the connection.
    package struct Overflow: Error, Hashable, Sendable {}

    /// Four octets: every stream has one.
    private var octets: Int32

    /// Octets; negative: nothing may be sent until credit has made up for it.
    @inline(__always)
    package var available: Int { Int(self.octets) }

    /// - Parameter initial: 0 to 2^31-1.
    package init(_ initial: Int) {
        precondition(initial >= 0 && initial <= HTTP2Settings.windowBytesMax)
        self.octets = Int32(initial)
    }

    /// Octets that may be sent now, never negative.
    @inline(__always)
    package var sendable: Int { max(0, self.available) }

    /// Something was sent. Sending more than is ``sendable`` is our own bug.
    @inline(__always)
    package mutating func consume(_ bytes: Int) {
        precondition(bytes >= 0 && bytes <= self.sendable, "sent past the flow-control window")
        self.octets -= Int32(truncatingIfNeeded: bytes)
    }

    /// WINDOW_UPDATE came, 1 to 2^31-1.
    package mutating func credit(_ bytes: Int) throws(Overflow) {
        guard bytes <= HTTP2Settings.windowBytesMax - self.available else { throw Overflow() }
        self.octets += Int32(truncatingIfNeeded: bytes)
    }

    /// INITIAL_WINDOW_SIZE changed by so much.
    package mutating func adjust(by delta: Int) throws(Overflow) {
        let next = self.available + delta
        guard next <= HTTP2Settings.windowBytesMax, next >= -HTTP2Settings.windowBytesMax - 1 else {
            throw Overflow()
        }
        self.octets = Int32(next)
    }
}
