/// A hash that is the same in every process, so that replicas of a waypoint agree. Not secret: a client that can choose
/// what is hashed can choose its endpoint, as it could anyway.
package enum StableHash {
    package static func of(_ bytes: some Sequence<UInt8>) -> UInt64 { Self.mixed(RunningHash(bytes).value) }

    /// Each bit of the result depends on each bit of the input (the finalizer of splitmix64).
    package static func mixed(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9e37_79b9_7f4a_7c15
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
