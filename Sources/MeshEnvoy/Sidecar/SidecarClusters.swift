internal import MeshModel
internal import MeshProto
internal import SwiftProtobuf

/// Clusters that lead to no service: on to where a connection was going, to the application, nowhere.
package enum SidecarClusters {
    /// What connections to the application come from, so that the pod's own redirection leaves them alone (Istio's).
    private static let source = "127.0.0.6"

    /// The same for every sidecar.
    package static var common: [EnvoyResource] {
        var passthrough = Self.onward(EnvoyNames.passthrough)
        passthrough.typedExtensionProtocolOptions[EnvoyNames.httpOptions] = Self.http(.unknown)
        var blackHole = EnvoyCluster()
        blackHole.name = EnvoyNames.blackHole
        blackHole.type = .static
        blackHole.connectTimeout = TunnelClusters.connectTimeout.proto
        return [passthrough, blackHole, Self.application(EnvoyNames.inboundPassthrough, .unknown)].map {
            EnvoyResource($0.name, $0)
        }
    }

    /// - Parameter port: of the application, where requests and streams for it are sent.
    static func inbound(_ port: UInt16, _ appProtocol: ServicePort.AppProtocol) -> EnvoyResource {
        let cluster = Self.application(Self.name(port), appProtocol)
        return EnvoyResource(cluster.name, cluster)
    }

    static func name(_ port: UInt16) -> String { "inbound|\(port)||" }

    private static func application(_ name: String, _ appProtocol: ServicePort.AppProtocol) -> EnvoyCluster {
        var cluster = Self.onward(name)
        cluster.upstreamBindConfig.sourceAddress = .with {
            $0.address = Self.source
            $0.portValue = 0
        }
        cluster.typedExtensionProtocolOptions[EnvoyNames.httpOptions] = Self.http(appProtocol)
        return cluster
    }

    private static func onward(_ name: String) -> EnvoyCluster {
        var cluster = EnvoyCluster()
        cluster.name = name
        cluster.connectTimeout = TunnelClusters.connectTimeout.proto
        cluster.circuitBreakers = .open
        cluster.goToOriginalDestination()
        return cluster
    }

    private static func http(_ appProtocol: ServicePort.AppProtocol) -> Google_Protobuf_Any {
        DestinationCluster.http(appProtocol).packed
    }
}
