/// Random numbers for choices that are no secret (which endpoint, in which order): seeded by the system once, while
/// `SystemRandomNumberGenerator` makes a system call for each number.
///
/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
public struct Draws: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init() { self.init(seed: UInt64.random(in: .min ... .max)) }

    /// The same numbers for the same seed.
    public init(seed: UInt64) { self.state = seed }

    public mutating func next() -> UInt64 {
        self.state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
