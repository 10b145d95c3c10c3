internal import Foundation
public import Logging

/// What an ``APIServer`` is told.
public struct APIServerConfiguration: Sendable {
    /// Where to listen, with TLS.
    public struct Endpoint: Hashable, Sendable {
        /// An IPv4 address, or a name that resolves to one.
        public var host: String
        /// 0 takes any free port; see ``APIServer/run(onReady:)``.
        public var port: Int
        public init(host: String, port: Int) {
            self.host = host
            self.port = port
        }
    }

    public var endpoints: [Endpoint]
    /// Where objects are kept; nil keeps them in memory only.
    public var dataDirectory: String?
    public var pkiDirectory: String
    /// Names and IPv4 addresses for the server certificate, besides the standard ones and ``endpoints``.
    public var certificateNames: [String]
    /// ClusterIPs come from here: an IPv4 CIDR between /8 and /28.
    public var serviceCIDR: String
    /// What the Service default/kubernetes leads to: an address that pods reach. Nil takes the first endpoint.
    public var advertised: Endpoint?
    public var nodeConnector: any NodeConnector
    public var log: Logger

    public init(
        endpoints: [Endpoint], dataDirectory: String? = nil, pkiDirectory: String, certificateNames: [String] = [],
        serviceCIDR: String = "10.43.0.0/16", advertised: Endpoint? = nil,
        nodeConnector: any NodeConnector = NoNodes(), log: Logger = Logger(label: "lab.apiserver")
    ) {
        self.endpoints = endpoints
        self.dataDirectory = dataDirectory
        self.pkiDirectory = pkiDirectory
        self.certificateNames = certificateNames
        self.serviceCIDR = serviceCIDR
        self.advertised = advertised
        self.nodeConnector = nodeConnector
        self.log = log
    }
}
