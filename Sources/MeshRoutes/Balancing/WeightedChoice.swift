/// Chooses among weights, each in proportion; a weight of 0 is never chosen, and where all are 0 nothing is.
package struct WeightedChoice: Sendable {
    /// Sums of the weights up to and with each one.
    private let sums: [UInt64]

    package init(_ weights: [UInt32]) {
        var sum: UInt64 = 0
        self.sums = weights.map {
            sum += UInt64($0)
            return sum
        }
    }

    /// - Parameter random: evenly distributed over all 64 bits.
    package func choose(_ random: UInt64) -> Int? {
        guard let total = self.sums.last, total > 0 else { return nil }
        if self.sums.count == 1 { return 0 }
        // The upper half of the product is even over 0..<total (Lemire), without a division.
        let point = random.multipliedFullWidth(by: total).high
        for (index, sum) in self.sums.enumerated() where point < sum { return index }
        return nil
    }
}
