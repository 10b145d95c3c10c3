import MeshModel
import Testing

@Suite("Draws")
struct DrawsTests {
    @Test("are SplitMix64's numbers for a seed")
    func numbers() {
        var draws = Draws(seed: 1_234_567)
        // From the generator's reference implementation.
        let expected: [UInt64] = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        #expect((0..<3).map { _ in draws.next() } == expected)
    }

    @Test("differ without a seed")
    func seeded() {
        let firsts = (0..<8).map { _ in
            var draws = Draws()
            return draws.next()
        }
        #expect(Set(firsts).count == 8)
    }
}
