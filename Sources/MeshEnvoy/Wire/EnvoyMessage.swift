internal import Foundation
package import MeshProto
package import SwiftProtobuf

/// A message that stands by itself on the wire, under the name that Envoy knows it by.
package protocol EnvoyMessage: Message {
    /// As in `type.googleapis.com/<name>`.
    static var envoyName: String { get }
}

extension Message {
    /// The same bytes for the same content: maps are in the order of their keys.
    fileprivate var canonicalBytes: [UInt8] {
        var options = BinaryEncodingOptions()
        options.useDeterministicOrdering = true
        guard let bytes: [UInt8] = try? self.serializedBytes(options: options) else {
            preconditionFailure("a proto3 message without required fields always encodes")
        }
        return bytes
    }
}

extension EnvoyMessage {
    static var typeURL: String { Google_Protobuf_Any.prefix + Self.envoyName }

    var bytes: [UInt8] { self.canonicalBytes }

    var packed: Google_Protobuf_Any {
        .with {
            $0.typeURL = Self.typeURL
            $0.value = Data(self.bytes)
        }
    }
}

extension Google_Protobuf_Any {
    fileprivate static let prefix = "type.googleapis.com/"

    /// An extension that is used as it comes.
    static func standard(_ envoyName: String) -> Google_Protobuf_Any { .with { $0.typeURL = Self.prefix + envoyName } }

    /// The name of a filter chain, as a matcher's action wants it.
    static func text(_ text: String) -> Google_Protobuf_Any {
        .with {
            $0.typeURL = Self.prefix + "google.protobuf.StringValue"
            $0.value = Data(Google_Protobuf_StringValue(text).canonicalBytes)
        }
    }
}

// Only what stands in an Any, or is a resource, has to say its name.

extension EnvoyListener: EnvoyMessage { package static let envoyName = "envoy.config.listener.v3.Listener" }
extension EnvoyCluster: EnvoyMessage { package static let envoyName = "envoy.config.cluster.v3.Cluster" }
extension EnvoyClusterLoadAssignment: EnvoyMessage {
    package static let envoyName = "envoy.config.endpoint.v3.ClusterLoadAssignment"
}
extension EnvoyRouteConfiguration: EnvoyMessage {
    package static let envoyName = "envoy.config.route.v3.RouteConfiguration"
}
extension EnvoySecret: EnvoyMessage {
    package static let envoyName = "envoy.extensions.transport_sockets.tls.v3.Secret"
}
extension EnvoyDownstreamTLS: EnvoyMessage {
    package static let envoyName = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
}
extension EnvoyUpstreamTLS: EnvoyMessage {
    package static let envoyName = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
}
extension EnvoyInternalUpstream: EnvoyMessage {
    package static let envoyName =
        "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"
}
extension EnvoyHTTPUpstream: EnvoyMessage {
    package static let envoyName = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
}
extension EnvoyHTTPConnectionManager: EnvoyMessage {
    package static let envoyName =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
}
extension EnvoyTCPProxy: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
}
extension EnvoyNetworkRBAC: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.network.rbac.v3.RBAC"
}
extension EnvoyNetworkRateLimit: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit"
}
extension EnvoyExtension: EnvoyMessage { package static let envoyName = "envoy.config.core.v3.TypedExtensionConfig" }
extension EnvoyHTTPRBACPerRoute: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
}
extension EnvoyHTTPRBAC: EnvoyMessage { package static let envoyName = "envoy.extensions.filters.http.rbac.v3.RBAC" }
extension EnvoyRouter: EnvoyMessage { package static let envoyName = "envoy.extensions.filters.http.router.v3.Router" }
extension EnvoyCORS: EnvoyMessage { package static let envoyName = "envoy.extensions.filters.http.cors.v3.CorsPolicy" }
extension EnvoySetFilterState: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.http.set_filter_state.v3.Config"
}
extension EnvoyJWTAuthentication: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
}
extension EnvoyLocalRateLimit: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
}
extension EnvoyStatefulSession: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession"
}
extension EnvoyStatefulSessionPerRoute: EnvoyMessage {
    package static let envoyName = "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"
}
extension EnvoyCookieSession: EnvoyMessage {
    package static let envoyName = "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState"
}
extension EnvoyHeaderSession: EnvoyMessage {
    package static let envoyName = "envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState"
}
extension EnvoyStdoutAccessLog: EnvoyMessage {
    package static let envoyName = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
}
extension EnvoyIPMatcher: EnvoyMessage { package static let envoyName = "xds.type.matcher.v3.IPMatcher" }
extension EnvoyFilterStateInput: EnvoyMessage {
    package static let envoyName = "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput"
}
