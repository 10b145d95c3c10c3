import MeshHTTP
import MeshIdentity
import MeshModel
import MeshPolicy
import MeshRoutes
import Testing

@Suite("Rate limits")
struct RateLimitTests {
    private func limit(_ requests: UInt32, per seconds: Int, burst: UInt32) -> RateLimit {
        RateLimit(
            key: NamespacedName(namespace: "shop", name: "calm"), requests: requests, interval: .seconds(seconds),
            burst: burst)
    }

    @Test("let a burst through, then their rate")
    func bucket() {
        let bucket = RateBucket(self.limit(10, per: 1, burst: 3))
        let start: UInt64 = 1_000_000_000_000
        for _ in 0..<3 { #expect(bucket.take(now: start) == nil) }
        #expect(bucket.take(now: start) == 100_000_000)
        #expect(bucket.take(now: start + 99_999_999) == 1)
        #expect(bucket.take(now: start + 100_000_000) == nil)
        #expect(bucket.take(now: start + 100_000_000) != nil)
        // Full again, and no fuller.
        for _ in 0..<3 { #expect(bucket.take(now: start * 2) == nil) }
        #expect(bucket.take(now: start * 2) != nil)
    }

    @Test("of nothing let nothing through")
    func zero() { #expect(RateBucket(self.limit(0, per: 1, burst: 5)).take(now: 5) != nil) }

    @Test("are the same for all gates that have them, while one is in use")
    func shared() {
        let buckets = RateBuckets()
        var traffic = TrafficGate()
        traffic.rateLimits = [self.limit(1, per: 60, burst: 1)]
        let first = RequestGate([traffic], trustDomains: [], buckets: buckets)
        let address = IPAddress("10.0.0.1")!
        #expect(first.decide(request(), from: peer(), remote: address, now: 7).verdict == .permit(by: nil))
        let second = RequestGate([traffic], trustDomains: [], buckets: buckets)
        let refused = second.decide(request(), from: peer(), remote: address, now: 7).verdict
        guard case .refuse(let refusal) = refused else {
            Issue.record("limited")
            return
        }
        #expect(refusal.status == 429)
        #expect(refusal.retryAfterSeconds == 61)
        #expect(refusal.detail == "local_rate_limited[shop/calm]")
        // What policy refuses takes nothing.
        var denied = traffic
        denied.policies = [policy(.deny, rule())]
        denied.rateLimits = [self.limit(1, per: 61, burst: 1)]
        let third = RequestGate([denied], trustDomains: [], buckets: buckets)
        guard case .refuse(.denied) = third.decide(request(), from: peer(), remote: address, now: 7).verdict else {
            Issue.record("denied")
            return
        }
        #expect(buckets.bucket(for: denied.rateLimits[0]).take(now: 7) == nil)
    }
}
