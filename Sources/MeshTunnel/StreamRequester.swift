internal import MeshHTTP

/// Who wants one stream of a tunnel, from the wait for the tunnel until CONNECT is answered. Called on the loop.
protocol StreamRequester: AnyObject {
    /// The `:authority` of the CONNECT request.
    var authority: String { get }
    var headers: [(name: String, value: String)] { get }
    /// The connection that the stream's bytes are counted for; nil: a leg of one that is counted elsewhere.
    var reported: ProxiedConnection? { get }
    /// CONNECT is on its way: hands the stream its application with ``TunnelStream/carry(_:_:)``.
    func attached(to stream: TunnelStream)
    /// 200. From now on the stream stands on its own.
    func answered(by stream: TunnelStream, _ head: HTTP2ResponseHead)
    /// The stream could not be had; its application goes back to whoever wanted it. ``tunnelFailed(_:isStale:)``
    /// follows.
    func takeBack(_ app: AppSocket)
    /// - Parameter isStale: the tunnel had worked before and closed under us; its peer is not to blame.
    func tunnelFailed(_ error: TunnelError, isStale: Bool)
}
