package import KubeAPI

/// A resource quantity (`100m`, `1.5`, `512Mi`, `1e3`), exact to a thousandth.
package struct Quantity: Hashable, Sendable {
    package var milliUnits: Int64

    /// Rounded up, as the downward API does.
    package var wholeUnits: Int64 { (self.milliUnits + 999) / 1000 }

    package init?(_ json: JSONValue) {
        switch json {
        case .int(let value): self.init(double: Double(value), factor: 1)
        case .double(let value): self.init(double: value, factor: 1)
        case .string(let text): self.init(text)
        default: return nil
        }
    }

    package init?(_ text: String) {
        let factors: [(String, Double)] = [
            ("Ki", 1024), ("Mi", 1_048_576), ("Gi", 1_073_741_824), ("Ti", 1_099_511_627_776),
            ("Pi", 1_125_899_906_842_624), ("m", 0.001), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15),
        ]
        for (suffix, factor) in factors where text.hasSuffix(suffix) {
            guard let number = Double(text.dropLast(suffix.count)) else { return nil }
            self.init(double: number, factor: factor)
            return
        }
        guard let number = Double(text) else { return nil }
        self.init(double: number, factor: 1)
    }

    /// Nil for what is negative, no number, or beyond the range.
    private init?(double: Double, factor: Double) {
        let milli = (double * factor * 1000).rounded(.up)
        guard milli.isFinite, milli >= 0, milli < 9e18 else { return nil }
        self.milliUnits = Int64(milli)
    }
}
