/// A pod as the node agent names it to the node proxy.
public struct ZDSPod: Hashable, Sendable {
    /// The Kubernetes pod UID.
    public var uid: String
    public var name, namespace, serviceAccount: String

    public init(uid: String, name: String, namespace: String, serviceAccount: String) {
        self.uid = uid
        self.name = name
        self.namespace = namespace
        self.serviceAccount = serviceAccount
    }
}

/// Package `istio.workload.zds`: one message per packet of a unix SEQPACKET socket. The proxy says hello, then the agent
/// asks and the proxy answers, strictly in turn.
public enum ZDS {
    /// The receive buffer of both sides; a longer packet arrives truncated and is an error.
    public static let packetBytesMax = 1024

    /// `ZdsHello{version: V1}`: the first packet, from the proxy.
    public static let hello: [UInt8] = [0x08, 0x01]

    public static func isHello(_ bytes: [UInt8]) -> Bool {
        var fields = ProtobufFields(bytes[...])
        var version: UInt64 = 0
        while true {
            guard let field = try? fields.next() else { break }
            if field.number == 1, case .number(let value) = field.value { version = value }
        }
        return version == 1
    }
}

public struct ZDSMalformed: Error, Hashable, CustomStringConvertible {
    public let reason: String
    public var description: String { "malformed ZDS message: \(self.reason)" }
}

/// `WorkloadRequest`: agent to proxy.
public enum ZDSRequest: Hashable, Sendable {
    /// Comes with the descriptor of the pod's network namespace.
    case add(ZDSPod)
    /// Only before ``snapshotSent``: this pod still exists, its namespace could not be sent again.
    case keep(uid: String)
    case delete(uid: String)
    /// Whatever was not named since the connection began is gone.
    case snapshotSent

    /// - Throws: when the message would not fit into a packet.
    public func encoded() throws(ZDSMalformed) -> [UInt8] {
        var inner: [UInt8] = []
        var message: [UInt8] = []
        switch self {
        case .add(let pod):
            var info: [UInt8] = []
            info.appendField(1, pod.name)
            info.appendField(2, pod.namespace)
            info.appendField(3, pod.serviceAccount)
            inner.appendField(1, pod.uid)
            inner.appendField(2, info)
            message.appendField(1, inner)
        case .delete(let uid):
            inner.appendField(2, uid)  // 2, not 1
            message.appendField(2, inner)
        case .snapshotSent: message.appendField(3, inner)
        case .keep(let uid):
            inner.appendField(1, uid)
            message.appendField(5, inner)
        }
        if message.count > ZDS.packetBytesMax {
            throw ZDSMalformed(reason: "\(message.count) bytes; a packet holds \(ZDS.packetBytesMax)")
        }
        return message
    }

    public init(decoding bytes: [UInt8]) throws(ZDSMalformed) {
        do {
            var fields = ProtobufFields(bytes[...])
            var found: ZDSRequest?
            while let (number, value) = try fields.next() {
                // Of a oneof the last one counts.
                guard case .bytes(let inner) = value else { continue }
                switch number {
                case 1: found = .add(try Self.pod(inner))
                case 2: found = .delete(uid: try Self.text(inner, field: 2))
                case 3: found = .snapshotSent
                case 5: found = .keep(uid: try Self.text(inner, field: 1))
                default: continue
                }
            }
            guard let found else { throw ZDSMalformed(reason: "unknown request") }
            self = found
        } catch let error as ZDSMalformed {
            throw error
        } catch {
            throw ZDSMalformed(reason: "not protobuf")
        }
    }

    private static func pod(_ bytes: ArraySlice<UInt8>) throws -> ZDSPod {
        var fields = ProtobufFields(bytes)
        var info: ArraySlice<UInt8>?
        while let (number, value) = try fields.next() {
            if number == 2, case .bytes(let inner) = value { info = inner }
        }
        guard let info else { throw ZDSMalformed(reason: "add without workload_info") }
        return ZDSPod(
            uid: try Self.text(bytes, field: 1), name: try Self.text(info, field: 1),
            namespace: try Self.text(info, field: 2), serviceAccount: try Self.text(info, field: 3))
    }

    fileprivate static func text(_ bytes: ArraySlice<UInt8>, field: UInt64) throws -> String {
        var fields = ProtobufFields(bytes)
        var text = ""
        while let (number, value) = try fields.next() {
            guard number == field, case .bytes(let inner) = value else { continue }
            guard let valid = String(validating: inner, as: UTF8.self) else { throw ZDSMalformed(reason: "not UTF-8") }
            text = valid
        }
        return text
    }
}

/// `WorkloadResponse{ack}`: proxy to agent.
public struct ZDSResponse: Hashable, Sendable {
    /// Nil: done. Else why not.
    public var error: String?

    public init(error: String? = nil) { self.error = error }

    /// A text that does not fit into a packet is cut at a character.
    public var encoded: [UInt8] {
        var text = self.error ?? ""
        // Two tags and two lengths of at most two bytes each.
        while text.utf8.count > ZDS.packetBytesMax - 6 { text.removeLast() }
        var ack: [UInt8] = []
        ack.appendField(1, text)
        var message: [UInt8] = []
        message.appendField(1, ack)
        return message
    }

    public init(decoding bytes: [UInt8]) throws(ZDSMalformed) {
        do {
            var fields = ProtobufFields(bytes[...])
            var ack: String?
            while let (number, value) = try fields.next() {
                if number == 1, case .bytes(let inner) = value { ack = try ZDSRequest.text(inner, field: 1) }
            }
            guard let ack else { throw ZDSMalformed(reason: "answer without an ack") }
            self.error = ack.isEmpty ? nil : ack
        } catch let error as ZDSMalformed {
            throw error
        } catch {
            throw ZDSMalformed(reason: "not protobuf")
        }
    }
}
