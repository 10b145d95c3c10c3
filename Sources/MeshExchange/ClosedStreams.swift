internal import MeshHTTP

/// What is remembered of streams that are over, so that late frames are told from wrong ones (RFC 9113, 5.1).
///
/// Bounded: 64 identifiers as bits, ``resetsMax`` streams that ended by RST_STREAM. What is older is treated mildly.
struct ClosedStreams {
    /// Streams that either side has reset, and of which the peer may not know yet that they are.
    static let resetsMax = 64

    enum Ending: Equatable {
        /// By END_STREAM on both sides.
        case finished
        /// By the peer's RST_STREAM.
        case resetByPeer
        /// By ours: what the peer had sent before it knew is read and thrown away.
        case resetByUs
        /// Never opened: the peer went past its identifier.
        case skipped
        /// So long ago that nobody knows.
        case forgotten
    }

    private struct Reset {
        var id: UInt32
        /// Octets of DATA that the peer may have under way; negative: it was the peer who reset.
        var dataLeft: Int32
    }

    private var resets: [Reset] = []
    private var oldest = 0
    /// The identifiers below this are forgotten when nothing else is known of them.
    private var forgottenBelow: UInt32 = 0
    /// Bit n: the n-th identifier before the last one was opened.
    private var opened: UInt64 = 0
    private var last: UInt32 = 0

    /// A stream begins, with an identifier above all before it.
    mutating func began(_ id: HTTP2StreamID) {
        let distance = (id.rawValue + 1) / 2 - (self.last + 1) / 2
        self.opened = distance >= 64 ? 1 : self.opened << UInt64(distance) | 1
        self.last = id.rawValue
    }

    /// - Parameter dataLeft: what the stream's window still allows the peer to send.
    mutating func resetByUs(_ id: HTTP2StreamID, dataLeft: Int) {
        self.remember(Reset(id: id.rawValue, dataLeft: Int32(clamping: max(0, dataLeft))))
    }

    mutating func resetByPeer(_ id: HTTP2StreamID) { self.remember(Reset(id: id.rawValue, dataLeft: -1)) }

    private mutating func remember(_ reset: Reset) {
        if self.resets.count < Self.resetsMax { return self.resets.append(reset) }
        self.forgottenBelow = max(self.forgottenBelow, self.resets[self.oldest].id + 1)
        self.resets[self.oldest] = reset
        self.oldest = (self.oldest + 1) % Self.resetsMax
    }

    /// How the stream ended, whose identifier is not above the last one.
    func ending(of id: HTTP2StreamID) -> Ending {
        if let reset = self.resets.last(where: { $0.id == id.rawValue }) {
            return reset.dataLeft < 0 ? .resetByPeer : .resetByUs
        }
        let back = (self.last + 1) / 2 - min((id.rawValue + 1) / 2, (self.last + 1) / 2)
        if back < 64, self.opened & 1 << UInt64(back) == 0 { return .skipped }
        return id.rawValue < self.forgottenBelow ? .forgotten : .finished
    }

    /// DATA of a stream that we have reset.
    /// - Returns: whether the peer may have sent it before it knew.
    mutating func allowsData(_ id: HTTP2StreamID, _ octets: Int) -> Bool {
        guard let at = self.resets.lastIndex(where: { $0.id == id.rawValue }) else { return true }
        guard Int(self.resets[at].dataLeft) >= octets else { return false }
        self.resets[at].dataLeft -= Int32(octets)
        return true
    }
}
