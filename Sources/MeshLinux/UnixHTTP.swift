internal import Glibc

public enum UnixHTTPError: Error, CustomStringConvertible {
    /// Nobody accepted the connection: no such socket, or the process behind it is gone.
    case nobodyListening(SystemError)
    /// Somebody did, and then no complete answer came.
    case noAnswer(String)

    public var description: String {
        switch self {
        case .nobodyListening(let error): "nobody answers: \(error)"
        case .noAnswer(let reason): reason
        }
    }
}

public enum UnixHTTP {
    /// Sends one POST and waits for the answer; blocks the calling thread.
    /// - Parameter timeout: for the whole exchange.
    public static func post(
        socket path: String, target: String, body: [UInt8], timeout: Duration
    ) throws(UnixHTTPError) -> UnixHTTPResponse {
        let deadline = ContinuousClock.now + timeout
        let socket: UnixSocket
        do throws(SystemError) {
            socket = try Self.connect(path, deadline)
        } catch {
            if error.isNobodyListening { throw .nobodyListening(error) }
            throw .noAnswer("\(error)")
        }
        do {
            try socket.send(
                UnixHTTPRequest(method: "POST", target: target, body: body).encoded, timeout: deadline - .now)
            guard let (startLine, body) = try Self.readMessage(socket, deadline) else {
                throw UnixHTTPError.noAnswer("\(path) closed the connection before it answered")
            }
            let words = startLine.split(separator: " ")
            guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
                throw UnixHTTPError.noAnswer("\(path) answered with \"\(startLine)\"")
            }
            return UnixHTTPResponse(status: status, body: body)
        } catch let error as UnixHTTPError {
            throw error
        } catch let error as SystemError where error.isTimeout {
            throw .noAnswer("\(path) did not answer within \(timeout)")
        } catch {
            throw .noAnswer("\(path): \(error)")
        }
    }

    /// A full backlog is waited for: the server lives, it is only busy.
    private static func connect(
        _ path: String, _ deadline: ContinuousClock.Instant
    ) throws(SystemError) -> UnixSocket {
        while true {
            do throws(SystemError) {
                return try UnixSocket.connect(to: path, .stream)
            } catch  where error.code == EAGAIN && ContinuousClock.now < deadline {
                usleep(5000)
            }
        }
    }

    /// - Returns: nil when the peer closed before the message was complete.
    static func readMessage(
        _ socket: UnixSocket, _ deadline: ContinuousClock.Instant
    ) throws -> (startLine: String, body: [UInt8])? {
        var reader = UnixHTTPReader()
        while let packet = try socket.receive(bytesMax: 16 << 10, timeout: deadline - .now) {
            if let message = try reader.received(packet.bytes) { return message }
        }
        return nil
    }
}

/// Answers the plugin's requests.
public final class UnixHTTPServer: Sendable {
    /// More requests wait in the listener's backlog; a node starts few pods at a time.
    public static let connectionsMax = 64
    /// For a request to arrive and for an answer to be taken. A handler has its own limits.
    static let transferLimit = Duration.seconds(5)

    private let listener: UnixListener

    public init(path: String, mode: UInt32) throws(SystemError) {
        self.listener = try UnixListener(path: path, .stream, mode: mode)
    }

    /// Serves until the task is cancelled, then removes the socket and lets requests in progress finish.
    public func run(_ handler: @escaping @Sendable (UnixHTTPRequest) async -> UnixHTTPResponse) async throws {
        defer { self.listener.unlink() }
        await withTaskGroup(of: Void.self) { group in
            var open = 0
            while let socket = try? await KernelThread.performCancellable({ try self.listener.accept(wakeup: $0) }) {
                if open == Self.connectionsMax {
                    await group.next()
                    open -= 1
                }
                open += 1
                group.addTask { await Self.serve(socket, handler) }
            }
            self.listener.unlink()
        }
    }

    private static func serve(
        _ socket: UnixSocket, _ handler: @Sendable (UnixHTTPRequest) async -> UnixHTTPResponse
    ) async {
        var response: UnixHTTPResponse
        do {
            let message = try await KernelThread.perform {
                try UnixHTTP.readMessage(socket, .now + Self.transferLimit).map { Message($0.startLine, $0.body) }
            }
            guard let message else { return }
            let words = message.startLine.split(separator: " ").map(String.init)
            guard words.count == 3 else { throw UnixHTTPReader.Malformed("start line") }
            response = await handler(UnixHTTPRequest(method: words[0], target: words[1], body: message.body))
        } catch {
            response = UnixHTTPResponse(status: 400, text: "\(error)\n")
        }
        let bytes = response.encoded
        _ = try? await KernelThread.perform { try socket.send(bytes, timeout: Self.transferLimit) }
    }

    private struct Message: Sendable {
        let startLine: String
        let body: [UInt8]
        init(_ startLine: String, _ body: [UInt8]) {
            self.startLine = startLine
            self.body = body
        }
    }
}
