/// How much the peer may still send us, and when to tell it that it may send more.
///
/// Octets go from *available* to *held* when they arrive, to *returnable* when the reader is done with them, and back
/// to *available* with a WINDOW_UPDATE. That is sent when half of the window is returnable: two updates for each
/// window of data, and the sender never stands still while half of it is on its way.
package struct ReceiveWindow: Hashable, Sendable {
    /// The peer sent more than it may; FLOW_CONTROL_ERROR.
    package struct Exceeded: Error, Hashable, Sendable {}

    // Four octets each: every stream has them. None is negative or more than 2^31-1.
    private var targetOctets, availableOctets, returnableOctets: Int32

    /// The size the window is kept at, octets.
    @inline(__always)
    package private(set) var target: Int {
        get { Int(self.targetOctets) }
        set { self.targetOctets = Int32(newValue) }
    }

    /// What the peer may send now.
    @inline(__always)
    package private(set) var available: Int {
        get { Int(self.availableOctets) }
        set { self.availableOctets = Int32(newValue) }
    }

    @inline(__always)
    private var returnable: Int {
        get { Int(self.returnableOctets) }
        set { self.returnableOctets = Int32(newValue) }
    }

    /// - Parameter target: 1 to 2^31-1. The peer must know it: from INITIAL_WINDOW_SIZE for a stream, from
    ///   ``grow(to:)`` for the connection, which always begins with 65 535.
    package init(target: Int) {
        precondition(target > 0 && target <= HTTP2Settings.windowBytesMax)
        self.targetOctets = Int32(target)
        self.availableOctets = Int32(target)
        self.returnableOctets = 0
    }

    /// Octets that arrived and were not ``released(_:)`` yet: what a slow reader makes us hold.
    package var held: Int { self.target - self.available - self.returnable }

    /// Flow-controlled octets arrived.
    @inline(__always)
    package mutating func received(_ bytes: Int) throws(Exceeded) {
        guard bytes <= self.available else { throw Exceeded() }
        self.available -= bytes
    }

    /// The reader is done with so many octets.
    ///
    /// - Returns: the increment of the WINDOW_UPDATE to send now, or nil while it is not worth one.
    @inline(__always)
    package mutating func released(_ bytes: Int) -> Int? {
        precondition(bytes >= 0 && bytes <= self.held, "released octets that never arrived")
        self.returnable += bytes
        guard self.returnable > 0, self.returnable * 2 >= self.target else { return nil }
        defer { self.returnable = 0 }
        self.available += self.returnable
        return self.returnable
    }

    /// Makes the window larger for good.
    ///
    /// - Returns: the increment of the WINDOW_UPDATE to send; nil when it already is that large.
    package mutating func grow(to target: Int) -> Int? {
        precondition(target <= HTTP2Settings.windowBytesMax)
        guard target > self.target else { return nil }
        let increment = target - self.target
        self.target = target
        self.available += increment
        return increment
    }
}
