/// How soon what changed for Envoys may be followed by more. Some of their resources hold something of every service (routes
/// of a port), so that a burst of new services would send, and let each Envoy read, the square of what there is to say.
package enum EnvoyPace {
    /// Of changed resources; single endpoints and policies (some 500 bytes) never wait for it.
    package static let bytesPerSecond = 2_000_000
    /// However much was published.
    package static let restMax = Duration.seconds(1)

    package static func rest(after bytes: Int) -> Duration {
        min(.seconds(1) / Self.bytesPerSecond * bytes, Self.restMax)
    }
}
