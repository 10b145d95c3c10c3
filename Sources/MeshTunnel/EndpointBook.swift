internal import MeshLoop
public import MeshModel

/// How the endpoints that one loop dials are doing: how many connections each carries, and which keep failing.
///
/// An endpoint that failed ``failuresMax`` times in a row is ejected: passed over while others are left, for a time
/// that doubles with every ejection in a row. After it one success clears the endpoint, one failure ejects it again.
/// Nothing here refuses a connection; who finds everybody ejected asks one of them all the same.
///
/// Belongs to its loop. Keeps endpoints only while they carry connections or have failed, and never more than
/// ``endpointsMax``; those beyond count as well.
public final class EndpointBook {
    public static let endpointsMax = 8192
    /// Consecutive failures.
    public static let failuresMax = 3
    public static let ejectionMin = Duration.seconds(5)
    public static let ejectionMax = Duration.seconds(300)

    private struct Page {
        var active = 0
        var failures = 0
        var lastFailure: UInt64 = 0
        var ejections = 0
        /// Nanoseconds of the clock; 0: never.
        var ejectedUntil: UInt64 = 0

        var isBlank: Bool { self.active == 0 && self.failures == 0 }
    }

    private var pages: [IPAddress: Page] = [:]
    /// The end of the last ejection: while it is past, nobody has to be looked up.
    private var lastEjectionEnds: UInt64 = 0
    private var nextCleaning: UInt64 = 0
    private let clock: () -> UInt64

    /// - Parameter clock: monotonic nanoseconds.
    package init(clock: @escaping () -> UInt64) { self.clock = clock }

    package var count: Int { self.pages.count }

    public func isEjected(_ endpoint: IPAddress) -> Bool {
        let now = self.clock()
        guard now < self.lastEjectionEnds, let page = self.pages[endpoint] else { return false }
        return now < page.ejectedUntil
    }

    /// Connections that this loop has with the endpoint.
    public func active(_ endpoint: IPAddress) -> Int { self.pages[endpoint]?.active ?? 0 }

    package func began(_ endpoint: IPAddress) { self.change(endpoint) { $0.active += 1 } }

    package func ended(_ endpoint: IPAddress) {
        guard var page = self.pages[endpoint] else { return }
        page.active = max(0, page.active - 1)
        self.pages[endpoint] = page.isBlank ? nil : page
    }

    package func succeeded(_ endpoint: IPAddress) {
        guard var page = self.pages[endpoint], page.failures > 0 else { return }
        page.failures = 0
        page.ejections = 0
        page.ejectedUntil = 0
        self.pages[endpoint] = page.isBlank ? nil : page
    }

    /// - Returns: for how long the endpoint is passed over from now on; nil when it is not, or was already.
    @discardableResult
    package func failed(_ endpoint: IPAddress) -> Duration? {
        let now = self.clock()
        var ejected: Duration?
        self.change(endpoint) { page in
            // One broken tunnel fails all who wait for it, in one round of the loop: that is one failure.
            if page.failures > 0, page.lastFailure == now { return }
            page.failures += 1
            page.lastFailure = now
            guard page.failures >= Self.failuresMax, now >= page.ejectedUntil else { return }
            let time = min(Self.ejectionMin * (1 << min(page.ejections, 10)), Self.ejectionMax)
            page.ejections += 1
            page.ejectedUntil = now + time.loopNanoseconds
            self.lastEjectionEnds = max(self.lastEjectionEnds, page.ejectedUntil)
            ejected = time
        }
        return ejected
    }

    private func change(_ endpoint: IPAddress, _ body: (inout Page) -> Void) {
        if self.pages[endpoint] == nil, self.pages.count >= Self.endpointsMax {
            self.forgetOld()
            guard self.pages.count < Self.endpointsMax else { return }
        }
        body(&self.pages[endpoint, default: Page()])
    }

    /// Drops failures that nobody has met for long. At most once in ``ejectionMin``: it looks at every page.
    private func forgetOld() {
        let now = self.clock()
        guard now >= self.nextCleaning else { return }
        self.nextCleaning = now + Self.ejectionMin.loopNanoseconds
        let old = Self.ejectionMax.loopNanoseconds
        self.pages = self.pages.filter { page in
            page.value.active > 0 || max(page.value.lastFailure, page.value.ejectedUntil) + old > now
        }
    }
}
