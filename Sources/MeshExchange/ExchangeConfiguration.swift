package import MeshHTTP

/// Every choice of the engine, with its defaults.
package struct ExchangeConfiguration: Sendable {
    package var http1 = HTTP1Limits()
    /// Requests that a client may have under way in one HTTP/2 connection.
    package var streamsMax = 100
    /// A client's connection without a request is kept so long.
    package var idleTimeout = Duration.seconds(3_600)
    /// At the end of the waypoint: how long a client of HTTP/1 may be silent before its connection is closed. Who asks
    /// before learns with the answer that it is the last one. Closed at once, a connection that is in use would often
    /// meet a request on its way, and a POST is not asked again. Well below the shortest deadline of a drain, 5 s.
    package var drainQuiet = Duration.seconds(2)
    /// From the first bytes of a request's head to the last. HTTP/1: 408; HTTP/2, where nothing else can be said meanwhile:
    /// the connection ends with ENHANCE_YOUR_CALM, within another ``HTTP2Connection/watchInterval``. It holds for endpoints
    /// of HTTP/2 and the heads of their responses too.
    package var headTimeout = Duration.seconds(30)
    /// An endpoint's connection without a request.
    package var upstreamIdleNanoseconds: UInt64 = 60_000_000_000
    /// How long a client may say nothing before its protocol is taken for one where the server speaks first; see
    /// ``ServedPort/needsHTTP``.
    package var silenceTimeout = Duration.milliseconds(200)
    /// A client, or an endpoint of HTTP/2, that takes nothing of what waits for it for so long is given up.
    package var stallTimeout = Duration.seconds(300)

    package init() {}
}
