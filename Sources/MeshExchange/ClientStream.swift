internal import MeshHTTP
internal import MeshRoutes

/// The client's side of one exchange. Called on the loop; what is sent after the end is dropped.
protocol ClientStream: AnyObject {
    /// 1xx, other than 101.
    func inform(_ head: ResponseHead)
    /// The response's head; without a body it is complete.
    func respond(_ head: ResponseHead, hasBody: Bool)
    /// - Parameter isLast: of the body, and no trailers follow: ``finish(_:)`` comes right behind it.
    func send(_ bytes: UnsafeRawBufferPointer, isLast: Bool)
    func finish(_ trailers: HTTP2HeaderList)
    /// 101, or 2xx to CONNECT: from now on bytes in both directions are not HTTP, and ``finish(_:)`` ends one of them.
    func switchProtocol(_ head: ResponseHead)
    /// A response that has begun cannot be completed: the client must see that.
    func abort()
    /// The last call: everything is said, or ``abort()`` was.
    func exchangeEnded()
    /// More should not be sent before ``Exchange/clientDrained()``.
    var isFull: Bool { get }
    /// The rest of the request may come.
    func wantsMore()
}

/// The endpoint's side of one attempt. Called on the loop.
protocol UpstreamStream: AnyObject {
    /// Of its connection.
    var peer: UpstreamPeer { get }
    func request(_ head: RequestHead, hasBody: Bool)
    /// - Parameter isLast: as ``ClientStream/send(_:isLast:)``.
    func send(_ bytes: UnsafeRawBufferPointer, isLast: Bool)
    func finish(_ trailers: HTTP2HeaderList)
    /// Nobody wants the response any more. After a switch of protocols, when both directions have ended, nothing is lost by it.
    func cancel()
    var isFull: Bool { get }
    /// The rest of the response may come.
    func wantsMore()
}

/// Who made an attempt. Called on the loop; after ``attemptFailed(_:)`` or the end nothing more is told.
protocol UpstreamStreamOwner: AnyObject {
    func attemptInformed(_ head: ResponseHead)
    func attemptResponded(_ head: ResponseHead, hasBody: Bool)
    /// From now on bytes are not HTTP, and ``attemptFinished(_:)`` ends one direction only: the stream lives until it is
    /// cancelled.
    func attemptSwitchedProtocol(_ head: ResponseHead)
    /// - Parameter isLast: as ``ClientStream/send(_:isLast:)``.
    /// - Returns: whether more may come at once; else ``UpstreamStream/wantsMore()`` says when.
    func attemptReceived(_ bytes: UnsafeRawBufferPointer, isLast: Bool) -> Bool
    func attemptFinished(_ trailers: HTTP2HeaderList)
    func attemptDrained()
    func attemptFailed(_ trouble: UpstreamTrouble)
}
