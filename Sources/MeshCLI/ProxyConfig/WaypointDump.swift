import Foundation

/// What a waypoint process answers to `GET /config_dump` on its admin port 15000, and what `martlet proxy-config` reads.
///
/// The shape is ours (docs/cli.md shows an example). Every list may be missing, which means that it is empty, and members
/// that this program does not know are skipped, so that a client and a waypoint of different versions understand each
/// other. Services are written `<namespace>/<hostname>`.
package struct WaypointDump: Codable, Hashable, Sendable {
    /// `<namespace>/<name>` of the Gateway.
    package var waypoint: String
    /// Of the program.
    package var version: String
    /// `service`, `workload`, `all` or `none`.
    package var trafficType: String
    /// The settings in force, by the names that docs/waypoint-settings.md has.
    package var settings: [String: String]
    package var listeners: [Listener]
    package var routes: [Route]
    package var clusters: [Cluster]
    package var endpoints: [Endpoint]
    package var certificates: [Certificate]

    package struct Listener: Codable, Hashable, Sendable {
        /// `hbone`, `admin`, `metrics`, `readiness`.
        package var name: String
        package var address: String
        package var port: UInt16
        /// How what arrives is told apart; none for the process's own ports.
        package var chains: [Chain]?
    }

    package struct Chain: Codable, Hashable, Sendable {
        /// `<namespace>/<hostname>:<port>` of a service, or the address of a workload.
        package var name: String?
        /// `cart.shop.svc.cluster.local:80 (HTTP)`: what the client asked for, and how its bytes are read.
        package var match: String
        /// `routes`, `tcp`, or the reason why it is refused.
        package var destination: String
    }

    /// One rule of one route, or what holds for a port without routes.
    package struct Route: Codable, Hashable, Sendable {
        /// `<namespace>/<route>/<name of the rule, or its number from 0>`; `default` without routes.
        package var name: String
        package var service: String
        /// Of the service; nil: every port.
        package var port: UInt16?
        /// `PathPrefix /api, Method GET, Header x=1`; `/*` for everything.
        package var match: String
        package var destinations: [Destination]
        /// `HTTPRoute/<namespace>/<name>`; nil: nobody wrote it.
        package var route: String?
        /// `RequestRedirect 302`, `URLRewrite /a`, in the order in which they are applied.
        package var filters: [String]?
    }

    package struct Destination: Codable, Hashable, Sendable {
        package var service: String
        package var port: UInt16?
        package var weight: UInt32?
        /// Why requests for it are refused; nil: they are not.
        package var invalid: String?
    }

    package struct Cluster: Codable, Hashable, Sendable {
        package var service: String
        package var port: UInt16
        package var subset: String?
        /// `inbound`: for a service of this waypoint; `outbound`: a route leads there.
        package var direction: String
        /// How endpoints are chosen: `LEAST_REQUEST`, `ROUND_ROBIN`, `RANDOM`, `HASH`.
        package var type: String
        /// `<namespace>/<name>` of the policy object that says so.
        package var destinationRule: String?
    }

    package struct Endpoint: Codable, Hashable, Sendable {
        /// `10.42.1.7:8080`
        package var address: String
        /// `HEALTHY`, `UNHEALTHY`, `DRAINING`
        package var status: String
        /// Outlier detection: `OK`, or `FAILED` while it is ejected.
        package var outlier: String
        /// `<direction>|<port>|<subset>|<hostname>`
        package var cluster: String
    }

    /// As in the dump of the node proxy.
    package struct Certificate: Codable, Hashable, Sendable {
        package struct Part: Codable, Hashable, Sendable {
            package var pem: String?
            /// Decimal.
            package var serialNumber: String
            /// RFC 3339.
            package var validFrom: String
            package var expirationTime: String
        }
        /// A SPIFFE ID.
        package var identity: String
        /// `Available`, `Initializing`, `Unavailable: <reason>`
        package var state: String
        package var certChain: [Part]?
        package var rootCerts: [Part]?
    }

    private enum Member: String, CodingKey {
        case waypoint, version, trafficType, settings, listeners, routes, clusters, endpoints, certificates
    }

    package init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: Member.self)
        func list<Element: Decodable>(_ member: Member) throws -> [Element] {
            try members.decodeIfPresent([Element].self, forKey: member) ?? []
        }
        self.waypoint = try members.decode(String.self, forKey: .waypoint)
        self.version = try members.decodeIfPresent(String.self, forKey: .version) ?? "unknown"
        self.trafficType = try members.decodeIfPresent(String.self, forKey: .trafficType) ?? "service"
        self.settings = try members.decodeIfPresent([String: String].self, forKey: .settings) ?? [:]
        self.listeners = try list(.listeners)
        self.routes = try list(.routes)
        self.clusters = try list(.clusters)
        self.endpoints = try list(.endpoints)
        self.certificates = try list(.certificates)
    }
}

extension WaypointDump {
    /// - Throws: ``CommandError``, also for the dump of another program, which it names.
    package init(parsing bytes: [UInt8]) throws {
        let data = Data(bytes)
        do {
            self = try JSONDecoder().decode(WaypointDump.self, from: data)
        } catch {
            let members = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any] ?? [:]
            if members["workloads"] != nil || members["workloadState"] != nil {
                throw CommandError(
                    "this is the dump of a node proxy, not of a waypoint; look at it with: martlet ztunnel-config")
            }
            if members["configs"] != nil {
                throw CommandError(
                    "this is the dump of an Envoy, not of our waypoint; read it with istioctl proxy-config")
            }
            throw CommandError("this is no dump of a waypoint: \(Self.reason(error))")
        }
    }

    private static func reason(_ error: any Error) -> String {
        func place(_ context: DecodingError.Context) -> String {
            context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? ".\($0.stringValue)" }.joined()
        }
        switch error {
        case DecodingError.keyNotFound(let key, let context):
            return "\(place(context)) has no member \"\(key.stringValue)\""
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            return "\(place(context)): \(context.debugDescription)"
        default: return "it is no JSON"
        }
    }
}
