extension RequestMirror {
    /// - Parameter random: evenly distributed over all 64 bits.
    package func copies(_ random: UInt64) -> Bool {
        guard self.denominator > 0 else { return false }
        return random.multipliedFullWidth(by: UInt64(self.denominator)).high < UInt64(self.numerator)
    }
}
