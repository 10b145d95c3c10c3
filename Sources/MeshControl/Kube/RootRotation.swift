/// When a self-signed root gets its successor (``MeshCA/CertificateAuthority/renewingRoot(validity:now:)``): the
/// settings of the reference, with its names and defaults.
package struct RootRotation: Hashable, Sendable {
    /// `CITADEL_SELF_SIGNED_CA_CERT_TTL`: how long a root lives.
    package var validity = Duration.seconds(87_600 * 3600)
    /// `CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL`; zero: roots are not renewed.
    package var checkInterval = Duration.seconds(3600)
    /// `CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE`: the part of its life that is left when it is renewed.
    package var gracePercent = 20
    /// `CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR`: replicas that start together look at different times.
    package var hasJitter = true

    package init() {}

    /// - Parameter random: from 0 to 1.
    package func firstWait(random: Double = Double.random(in: 0..<1)) -> Duration {
        self.hasJitter ? self.checkInterval * random : self.checkInterval
    }
}
