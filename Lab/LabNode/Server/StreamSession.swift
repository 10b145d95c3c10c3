import CLabNode
import Foundation
import KubeAPI
import NIOCore
import NIOWebSocket
import Synchronization

/// One WebSocket with Kubernetes' channels: the first byte of each message says which.
struct StreamSocket: Sendable {
    enum Stream: UInt8, Sendable { case input = 0, output, error, status, resize, close = 255 }
    /// What fits into one message of ours.
    static let messageBytesMax = 32 << 10

    let outbound: NIOAsyncChannelOutboundWriter<WebSocketFrame>

    func send(_ stream: Stream, _ bytes: [UInt8]) async throws {
        var rest = bytes[...]
        repeat {
            var buffer = ByteBuffer(bytes: [stream.rawValue])
            buffer.writeBytes(rest.prefix(Self.messageBytesMax))
            rest = rest.dropFirst(Self.messageBytesMax)
            try await self.outbound.write(WebSocketFrame(fin: true, opcode: .binary, data: buffer))
        } while !rest.isEmpty
    }

    func end(_ status: JSONValue) async throws {
        try await self.send(.status, status.encoded)
        var code = ByteBuffer()
        code.write(webSocketErrorCode: .normalClosure)
        try await self.outbound.write(WebSocketFrame(fin: true, opcode: .connectionClose, data: code))
    }

    /// What a client sent, after answering what only concerns the socket. Nil: nothing for us.
    func receive(_ frame: WebSocketFrame) async throws -> (stream: Stream, bytes: [UInt8])? {
        var data = frame.unmaskedData
        switch frame.opcode {
        case .binary, .text:
            guard let first = data.readInteger(as: UInt8.self), let stream = Stream(rawValue: first) else { return nil }
            return (stream, Array(data.readableBytesView))
        case .ping:
            try await self.outbound.write(WebSocketFrame(fin: true, opcode: .pong, data: data))
            return nil
        default: return nil
        }
    }
}

/// Reads a descriptor to its end, or until some time after the process that wrote to it has ended: something it left
/// in the background may hold the other end for ever.
final class OutputDrain: Sendable {
    static let graceMilliseconds = 500

    private let ended = Mutex<ContinuousClock.Instant?>(nil)

    func processEnded() { self.ended.withLock { $0 = .now } }

    /// The next piece; nil at the end.
    func read(_ descriptor: Int32) async -> [UInt8]? {
        await CommandRunner.blocking {
            while true {
                var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                let ready = poll(&waiting, 1, 200)
                if ready > 0 { return readSome(descriptor) }
                if ready < 0, errno != EINTR { return nil }
                let isOver = self.ended.withLock { ended in
                    ended.map { .now - $0 > .milliseconds(Self.graceMilliseconds) } ?? false
                }
                if isOver { return nil }
            }
        }
    }
}

/// `kubectl exec` and `kubectl attach`: a program in a container on one side, a WebSocket on the other.
struct StreamSession: Sendable {
    typealias Channel = NIOAsyncChannel<WebSocketFrame, WebSocketFrame>

    /// How long a program waits for its terminal's size. A client that knows it sends it first, but on a loaded machine
    /// that may take a while; one that does not know it ends the wait with its first input.
    static let firstResize = Duration.seconds(2)

    let runtime: ContainerRuntime
    let request: KubeletRequest
    let container: ContainerRuntime.Running

    // MARK: exec

    func exec(_ channel: Channel) async throws {
        try await channel.executeThenClose { inbound, outbound in
            let socket = StreamSocket(outbound: outbound)
            let command = self.request.query["command"] ?? []
            guard !command.isEmpty else {
                try await socket.end(ExecStatus.failure("you must specify at least 1 command for the container"))
                return
            }
            if self.request.flag("tty") {
                try await self.execInTerminal(command, socket, inbound)
            } else {
                try await self.execOverPipes(command, socket, inbound)
            }
        }
    }

    private func spawn(
        _ command: [String], _ streams: ProcessTable.Streams, report: String
    ) throws -> ProcessTable.Child {
        try self.runtime.commands.processes.spawn(
            self.runtime.execArguments(command, in: self.container.id, isTerminal: streams.isTerminal, report: report),
            environment: ["PATH": CommandRunner.path], streams: streams,
            networkNamespace: self.runtime.commands.networkNamespace)
    }

    private func execOverPipes(
        _ command: [String], _ socket: StreamSocket, _ inbound: NIOAsyncChannelInboundStream<WebSocketFrame>
    ) async throws {
        let report = self.runtime.newReport()
        defer { unlink(report) }
        let (input, output, error) = (try CommandRunner.pipe(), try CommandRunner.pipe(), try CommandRunner.pipe())
        let streams = ProcessTable.Streams(input: input.read, output: output.write, error: error.write)
        let child = try self.spawn(command, streams, report: report)
        for descriptor in [input.read, output.write, error.write] { close(descriptor) }
        let writer = InputWriter(input.write)
        if !self.request.flag("stdin") { await writer.close() }
        let drain = OutputDrain()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.readInput(inbound, socket, writer, terminal: nil, child: child) }
            try await withThrowingTaskGroup(of: Void.self) { pumps in
                for (descriptor, stream) in [(output.read, StreamSocket.Stream.output), (error.read, .error)] {
                    pumps.addTask {
                        defer { close(descriptor) }
                        while let bytes = await drain.read(descriptor) { try await socket.send(stream, bytes) }
                    }
                }
                pumps.addTask {
                    _ = await child.exit
                    drain.processEnded()
                }
                try await pumps.waitForAll()
            }
            let exit = await child.exit
            try await socket.end(ExecStatus.ended(code: exit.code, reason: ContainerRuntime.reason(in: report)))
            group.cancelAll()
            while (try? await group.next()) != nil {}
        }
        await writer.close()
    }

    private func execInTerminal(
        _ command: [String], _ socket: StreamSocket, _ inbound: NIOAsyncChannelInboundStream<WebSocketFrame>
    ) async throws {
        let report = self.runtime.newReport()
        defer { unlink(report) }
        var (controller, terminal): (Int32, Int32) = (-1, -1)
        let code = clabnode_open_terminal(&controller, &terminal)
        if code < 0 { throw SystemError("opening a terminal", code: -code) }
        let descriptor = controller
        let slave = terminal
        let writer = InputWriter(dup(descriptor))
        let drain = OutputDrain()
        let line = TerminalLine()
        let sized = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await self.readInput(
                    inbound, socket, writer, terminal: descriptor, child: nil,
                    onFirstWord: { sized.continuation.yield() })
                // Nobody is at the terminal any more.
                await writer.close()
                line.hangUp()
            }
            let patience = Task {
                try? await Task.sleep(for: Self.firstResize)
                sized.continuation.yield()
            }
            for await _ in sized.stream { break }
            patience.cancel()
            let streams = ProcessTable.Streams(input: slave, output: slave, error: slave, isTerminal: true)
            let child = try self.spawn(command, streams, report: report)
            close(slave)
            line.connect(child)
            let waiter = Task {
                _ = await child.exit
                drain.processEnded()
            }
            while let bytes = await drain.read(descriptor) { try await socket.send(.output, bytes) }
            await waiter.value
            let exit = await child.exit
            try await socket.end(ExecStatus.ended(code: exit.code, reason: ContainerRuntime.reason(in: report)))
            group.cancelAll()
            while (try? await group.next()) != nil {}
        }
        await writer.close()
        close(descriptor)
    }

    // MARK: attach

    func attach(_ channel: Channel) async throws {
        try await channel.executeThenClose { inbound, outbound in
            let socket = StreamSocket(outbound: outbound)
            let input = self.request.flag("stdin") ? self.container.input.map { InputWriter(dup($0)) } : nil
            let output = self.container.log.attach()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await self.readInput(inbound, socket, input, terminal: nil, child: nil) }
                for await piece in output {
                    let isOutput = piece.stream == .stdout
                    guard self.request.flag(isOutput ? "stdout" : "stderr") else { continue }
                    try await socket.send(isOutput ? .output : .error, piece.bytes)
                }
                try await socket.end(ExecStatus.success)
                group.cancelAll()
                while (try? await group.next()) != nil {}
            }
            await input?.close()
        }
    }

    // MARK: input

    /// Takes what the client sends until it goes away; then the program is told to end.
    private func readInput(
        _ inbound: NIOAsyncChannelInboundStream<WebSocketFrame>, _ socket: StreamSocket, _ writer: InputWriter?,
        terminal: Int32?, child: ProcessTable.Child?, onFirstWord: @Sendable () -> Void = {}
    ) async throws {
        for try await frame in inbound {
            if frame.opcode == .connectionClose { break }
            guard let (stream, bytes) = try await socket.receive(frame) else { continue }
            switch stream {
            case .input:
                onFirstWord()
                await writer?.write(bytes)
            // `ff 00`: the end of standard input (version 5).
            case .close where bytes.first == StreamSocket.Stream.input.rawValue: await writer?.close()
            case .resize:
                guard let terminal, let size = try? JSONValue(parsing: bytes) else { continue }
                let rows = UInt16(clamping: size["Height"]?.int ?? 0)
                let columns = UInt16(clamping: size["Width"]?.int ?? 0)
                _ = clabnode_set_window(terminal, rows, columns)
                onFirstWord()
            case .output, .error, .status, .close: continue
            }
        }
        child?.signal(SIGTERM)
    }
}

/// Tells the program at a terminal that its user has gone, also when that happens before it starts. runc passes the
/// signal on.
final class TerminalLine: Sendable {
    private struct State {
        var child: ProcessTable.Child?
        var isHungUp = false
    }
    private let state = Mutex(State())

    func connect(_ child: ProcessTable.Child) {
        let isHungUp = self.state.withLock { state in
            state.child = child
            return state.isHungUp
        }
        if isHungUp { child.signal(SIGHUP) }
    }

    func hangUp() {
        let child = self.state.withLock { state in
            state.isHungUp = true
            return state.child
        }
        child?.signal(SIGHUP)
    }
}

/// The write end of a program's standard input, closed once. Writes wait for the program to read.
actor InputWriter {
    private var descriptor: Int32?
    init(_ descriptor: Int32) { self.descriptor = descriptor }

    func write(_ bytes: [UInt8]) async {
        guard let descriptor else { return }
        // A copy of its own: closing ours meanwhile must not hand its number to another file.
        let copy = dup(descriptor)
        await CommandRunner.blocking {
            writeAll(copy, bytes)
            Glibc.close(copy)
        }
    }

    func close() {
        if let descriptor { Glibc.close(descriptor) }
        self.descriptor = nil
    }
}
