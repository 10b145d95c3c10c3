package import MeshModel
package import MeshProto

/// The smaller messages that workloads and services share.
///
/// Everywhere in this folder `decode` throws the reason alone; the caller knows the resource's name.
struct Reason: Error {
    let text: String
    init(_ text: String) { self.text = text }
}

extension MeshAddress {
    /// - Throws: ``RejectedResource`` under `name`, the xDS resource name.
    package init(_ proto: Istio_Workload_Address, name: String) throws(RejectedResource) {
        do throws(Reason) {
            switch proto.type {
            case .workload(let workload): self = .workload(try Workload(decoding: workload))
            case .service(let service): self = .service(try Service(decoding: service))
            case nil: throw Reason("an address that is neither a workload nor a service")
            }
        } catch {
            throw RejectedResource(name: name, reason: error.text)
        }
    }

    package var proto: Istio_Workload_Address {
        switch self {
        case .workload(let workload): .with { $0.workload = workload.proto }
        case .service(let service): .with { $0.service = service.proto }
        }
    }
}

extension IPAddress {
    init(decoding bytes: some Collection<UInt8>) throws(Reason) {
        guard let address = IPAddress(bytes: bytes) else {
            throw Reason("an IP address of \(bytes.count) bytes; wanted 4 or 16")
        }
        self = address
    }
}

extension GatewayAddress {
    init(decoding proto: Istio_Workload_GatewayAddress) throws(Reason) {
        let destination: Destination
        switch proto.destination {
        case .hostname(let name):
            destination = .hostname(NamespacedName(namespace: name.namespace, name: name.hostname))
        case .address(let address):
            destination = .address(
                NetworkAddress(network: address.network, address: try IPAddress(decoding: address.address)))
        case nil: throw Reason("a gateway address without a destination")
        }
        self.init(destination: destination, hbonePort: UInt16(truncatingIfNeeded: proto.hboneMtlsPort))
    }

    var proto: Istio_Workload_GatewayAddress {
        .with { message in
            switch self.destination {
            case .hostname(let name):
                message.hostname = .with {
                    $0.namespace = name.namespace
                    $0.hostname = name.name
                }
            case .address(let address): message.address = address.proto
            }
            message.hboneMtlsPort = UInt32(self.hbonePort)
        }
    }
}

extension NetworkAddress {
    var proto: Istio_Workload_NetworkAddress {
        .with {
            $0.network = self.network
            $0.address = .init(self.address.bytes)
        }
    }
}

extension ServicePort {
    /// Ports are cut to 16 bits, as the reference does; an unknown application protocol is UNKNOWN.
    init(decoding proto: Istio_Workload_Port) {
        self.init(
            port: UInt16(truncatingIfNeeded: proto.servicePort),
            targetPort: UInt16(truncatingIfNeeded: proto.targetPort),
            appProtocol: UInt8(exactly: proto.appProtocol.rawValue).flatMap(AppProtocol.init) ?? .unknown)
    }

    var proto: Istio_Workload_Port {
        .with {
            $0.servicePort = UInt32(self.port)
            $0.targetPort = UInt32(self.targetPort)
            $0.appProtocol = .init(rawValue: Int(self.appProtocol.rawValue)) ?? .unknown
        }
    }
}

/// The enum of the model that has the wire's number.
func decodeEnum<Value: RawRepresentable<UInt8>>(_ number: Int, _ what: String) throws(Reason) -> Value {
    guard let value = UInt8(exactly: number).flatMap(Value.init) else { throw Reason("unknown \(what) \(number)") }
    return value
}
