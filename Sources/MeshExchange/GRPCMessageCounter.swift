/// Counts the messages of one direction of a gRPC call in its body's bytes, however they are cut: each is a byte of flags,
/// four of length, and the message (gRPC over HTTP/2, "Length-Prefixed-Message").
package struct GRPCMessageCounter {
    private var prefixBytes = 0
    private var length: UInt32 = 0
    /// Of the message under way.
    private var left = 0

    package init() {}

    /// - Returns: the messages that begin in `bytes`: their prefix is complete.
    package mutating func count(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var messages: UInt64 = 0
        var at = 0
        while at < bytes.count {
            if self.left > 0 {
                let taken = min(self.left, bytes.count - at)
                self.left -= taken
                at += taken
                continue
            }
            if self.prefixBytes > 0 { self.length = self.length << 8 | UInt32(bytes[at]) }
            self.prefixBytes += 1
            at += 1
            if self.prefixBytes == 5 {
                messages += 1
                self.left = Int(self.length)
                self.prefixBytes = 0
                self.length = 0
            }
        }
        return messages
    }
}
