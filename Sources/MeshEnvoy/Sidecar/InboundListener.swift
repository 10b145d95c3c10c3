package import MeshModel
internal import MeshProto
package import MeshRoutes
internal import SwiftProtobuf

/// What a sidecar takes for its application: one listener that everything from outside the pod is redirected to, with
/// filter chains by the port that a connection was for, by whether it is the mesh's TLS, and by what is spoken inside.
///
/// | mode | the mesh's TLS | anything else |
/// |---|---|---|
/// | STRICT | taken | no chain: closed |
/// | PERMISSIVE | taken | taken, without identity |
/// | DISABLE | the application's business | taken, without identity |
///
/// What is asked of requests comes beside it (``RequestPlaces``). What is asked of streams is a part of their chains: where it
/// changes, connections that are open end with the drain.
package struct InboundListener {
    /// A port of the application.
    package struct Port: Hashable, Sendable {
        package var number: UInt16
        package var appProtocol: ServicePort.AppProtocol
        package init(_ number: UInt16, _ appProtocol: ServicePort.AppProtocol) {
            self.number = number
            self.appProtocol = appProtocol
        }
    }

    package private(set) var resources: [EnvoyResource] = []
    /// Policies that close everything.
    package let problems: [EnvoyProblem]

    private static let silenceMax = Duration.milliseconds(200)

    /// - Parameters:
    ///   - workload: for problems, `<namespace>/<pod>`.
    ///   - ports: that services lead to, each number once.
    ///   - tunnelled: addresses of the pod if it takes tunnels itself (HBONE, 15008); empty: it does not.
    package init(
        _ workload: String, ports: [Port], tls: InboundTLS, tunnelled: [IPAddress] = [], _ gate: TrafficGate,
        _ settings: SidecarSettings
    ) {
        func compiled(_ proof: PeerProof) -> GateTranslation {
            GateTranslation([gate], trustDomains: settings.mesh.trustDomains, chain: workload, proof: proof)
        }
        var known = Dictionary(ports.map { ($0.number, $0) }, uniquingKeysWith: { first, _ in first })
        for number in tls.ports.keys where known[number] == nil { known[number] = Port(number, .unknown) }
        let ordered = known.values.sorted { $0.number < $1.number }.filter { $0.number != settings.inboundPort }
        var direct = InboundChains(settings, compiled(.certificate), addresses: [])
        for port in ordered {
            self.resources.append(SidecarClusters.inbound(port.number, port.appProtocol))
            direct.add(port, tls.mode(of: port.number))
        }
        direct.add(nil, tls.mode)
        self.problems = direct.gate.problems
        self.resources += [Self.listener(direct, settings), direct.gate.tokensResource] + direct.routes
        if tunnelled.isEmpty { return }
        var inside = InboundChains(settings, compiled(.tunnel), addresses: tunnelled)
        for port in ordered { inside.addTunnelled(port) }
        inside.addTunnelled(nil)
        self.resources +=
            [
                TunnelListeners.terminate(settings.mesh), TunnelClusters.main, Self.inside(inside),
            ] + inside.routes
    }

    private static func listener(_ chains: InboundChains, _ settings: SidecarSettings) -> EnvoyResource {
        var listener = EnvoyListener()
        listener.name = "virtualInbound"
        listener.address = .socket("0.0.0.0", settings.inboundPort)
        listener.trafficDirection = .inbound
        let loop = EnvoyFilterChain.with {
            $0.name = "virtualInbound-blackhole"
            $0.filterChainMatch.destinationPort = Google_Protobuf_UInt32Value(UInt32(settings.inboundPort))
            $0.filters = [.stream("virtualInbound-blackhole", to: EnvoyNames.blackHole, log: nil)]
        }
        listener.filterChains = [loop] + chains.chains
        listener.listenerFilters = [
            .originalDestination, .tls.except(on: chains.plain), .http.except(on: chains.declared.union(chains.plain)),
        ]
        listener.listenerFiltersTimeout = Self.silenceMax.proto
        listener.continueOnListenerFiltersTimeout = true
        return EnvoyResource(listener.name, listener)
    }

    /// What came out of tunnels: to this pod, and nowhere else.
    private static func inside(_ chains: InboundChains) -> EnvoyResource {
        var listener = EnvoyListener()
        listener.name = EnvoyNames.main
        listener.internalListener = .init()
        listener.trafficDirection = .inbound
        if let matcher = chains.matcher {
            listener.filterChains = chains.chains
            listener.filterChainMatcher = matcher
        } else {
            listener.filterChains = [
                .with { $0.filters = [.stream(EnvoyNames.blackHole, to: EnvoyNames.blackHole, log: nil)] }
            ]
        }
        listener.listenerFilters = [.originalDestination, .http.except(on: chains.declared)]
        listener.listenerFiltersTimeout = Self.silenceMax.proto
        listener.continueOnListenerFiltersTimeout = true
        return EnvoyResource(listener.name, listener)
    }
}

/// Collects filter chains of one listener.
private struct InboundChains {
    typealias Port = InboundListener.Port

    let settings: SidecarSettings
    let gate: GateTranslation
    /// Where connections may lead; empty: anywhere.
    let addresses: [IPAddress]
    private(set) var chains: [EnvoyFilterChain] = []
    /// What becomes of requests, by name.
    private var routesByName: [String: EnvoyResource] = [:]
    var routes: [EnvoyResource] { self.routesByName.values.sorted { $0.name < $1.name } }
    /// The port whose chains are being made takes mutual TLS only.
    private var isStrict = false
    /// Ports where nobody has to look for HTTP, and for TLS.
    private(set) var declared: Set<UInt16> = []
    private(set) var plain: Set<UInt16> = []

    init(_ settings: SidecarSettings, _ gate: GateTranslation, addresses: [IPAddress]) {
        self.settings = settings
        self.gate = gate
        self.addresses = addresses
    }

    /// - Parameter port: nil: all that have no chains of their own.
    mutating func add(_ port: Port?, _ mode: InboundTLS.Mode) {
        let speaks = port?.appProtocol ?? .unknown
        let number = port?.number
        if let number, speaks != .unknown { self.declared.insert(number) }
        if let number, mode == .disable, speaks == .tcp || speaks == .tls { self.plain.insert(number) }
        self.isStrict = mode == .strict
        if mode != .disable { self.addMutual(number, speaks, isStrict: self.isStrict) }
        if self.isStrict { return }
        self.addPlain(number, speaks, .with { $0.transportProtocol = "raw_buffer" })
        // TLS that the application ends itself.
        self.add(number, .with { $0.transportProtocol = "tls" }, isRequests: false, isMutual: false)
    }

    // MARK: Out of tunnels

    /// By port; what is not there is closed.
    private var matches: [UInt16: EnvoyMatcher.OnMatch] = [:]
    private var rest: EnvoyMatcher.OnMatch?

    /// As ``add(_:_:)``, for what came out of a tunnel, which has proven its client.
    mutating func addTunnelled(_ port: Port?) {
        let speaks = port?.appProtocol ?? .unknown
        if let port, speaks != .unknown { self.declared.insert(port.number) }
        let match: EnvoyMatcher.OnMatch?
        switch speaks {
        case .http11, .http2, .grpc: match = self.tunnelled(port?.number, isRequests: true)
        case .tcp, .tls: match = self.tunnelled(port?.number, isRequests: false)
        case .unknown:
            match = self.tunnelled(port?.number, isRequests: true).map { requests in
                .protocols(
                    OutboundListeners.requestProtocols.map { "'\($0)'" }, requests,
                    else: self.tunnelled(port?.number, isRequests: false))
            }
        }
        if let port { self.matches[port.number] = match } else { self.rest = match }
    }

    /// Nil: nobody passes.
    private mutating func tunnelled(_ port: UInt16?, isRequests: Bool) -> EnvoyMatcher.OnMatch? {
        let cluster = port.map(SidecarClusters.name) ?? EnvoyNames.inboundPassthrough
        let verdict = isRequests ? .open : self.gate.admission.verdict(port: port)
        var chain = EnvoyFilterChain()
        chain.name = "\(cluster)|\(isRequests ? "http" : "tcp")"
        chain.filters =
            isRequests ? [self.requests(port, cluster)] : self.streams(port, cluster, waits: verdict == .firstBytes)
        self.chains.append(chain)
        guard case .identities(let identities) = verdict else { return .chain(chain.name) }
        return identities.isEmpty ? nil : .clients(identities, .chain(chain.name))
    }

    /// To this pod, and nowhere else; nil: nobody passes.
    var matcher: EnvoyMatcher? {
        guard let match = self.matches.isEmpty ? self.rest : .ports(self.matches, else: self.rest) else { return nil }
        return .addresses([(self.addresses.map { EnvoyCidrRange($0) }, match)])
    }

    // MARK: Redirected

    private mutating func addPlain(
        _ port: UInt16?, _ speaks: ServicePort.AppProtocol, _ match: EnvoyFilterChainMatch
    ) {
        switch speaks {
        case .http11, .http2, .grpc: self.add(port, match, isRequests: true, isMutual: false)
        case .unknown:
            var requests = match
            requests.applicationProtocols = OutboundListeners.requestProtocols
            self.add(port, requests, isRequests: true, isMutual: false)
            self.add(port, match, isRequests: false, isMutual: false)
        case .tcp, .tls: self.add(port, match, isRequests: false, isMutual: false)
        }
    }

    private mutating func addMutual(_ port: UInt16?, _ speaks: ServicePort.AppProtocol, isStrict: Bool) {
        func match(_ protocols: [String]) -> EnvoyFilterChainMatch {
            .with {
                $0.transportProtocol = "tls"
                $0.applicationProtocols = protocols
            }
        }
        // A strict port takes whoever proves an identity, whatever it says that it will speak.
        switch speaks {
        case .http11, .http2, .grpc:
            self.add(port, match(isStrict ? [] : SidecarProtocols.all), isRequests: true, isMutual: true)
        case .tcp, .tls: self.add(port, match(isStrict ? [] : SidecarProtocols.all), isRequests: false, isMutual: true)
        case .unknown:
            self.add(port, match(SidecarProtocols.requests), isRequests: true, isMutual: true)
            self.add(port, match(isStrict ? [] : SidecarProtocols.streams), isRequests: false, isMutual: true)
        }
    }

    private mutating func add(
        _ port: UInt16?, _ match: EnvoyFilterChainMatch, isRequests: Bool, isMutual: Bool
    ) {
        var chain = EnvoyFilterChain()
        chain.name = port.map { "0.0.0.0_\($0)" } ?? "virtualInbound-catchall-\(isRequests ? "http" : "tcp")"
        chain.filterChainMatch = match
        if let port { chain.filterChainMatch.destinationPort = Google_Protobuf_UInt32Value(UInt32(port)) }
        let cluster = port.map(SidecarClusters.name) ?? EnvoyNames.inboundPassthrough
        var peers = TunnelListeners.members(self.settings.mesh)
        if isRequests {
            chain.filters = [self.requests(port, cluster)]
        } else {
            switch self.gate.admission.verdict(port: port) {
            case .open: chain.filters = self.streams(port, cluster, waits: false)
            case .firstBytes: chain.filters = self.streams(port, cluster, waits: true)
            case .identities(let identities):
                // Without the mesh's TLS there is no identity.
                let isPossible = isMutual && !identities.isEmpty
                peers = identities
                chain.filters =
                    isPossible
                    ? self.streams(port, cluster, waits: false)
                    : [.stream(Self.stat(port), to: EnvoyNames.blackHole, log: self.settings.streamLog)]
                if !isPossible { peers = TunnelListeners.members(self.settings.mesh) }
            }
        }
        if isMutual { chain.transportSocket = self.mutualTLS(accepting: peers, isRequests: isRequests) }
        self.chains.append(chain)
    }

    private func mutualTLS(accepting peers: [EnvoyStringMatcher], isRequests: Bool) -> EnvoyTransportSocket {
        EnvoyTransportSocket(
            "tls",
            EnvoyDownstreamTLS.with {
                $0.requireClientCertificate = true
                // Where nothing is agreed on, the first bytes tell.
                $0.commonTlsContext = EnvoyCommonTLS(
                    accepting: peers, protocols: isRequests ? ["h2", "http/1.1"] : [], isTunnel: false)
            }.packed)
    }

    private func streams(_ port: UInt16?, _ cluster: String, waits: Bool) -> [EnvoyFilter] {
        self.gate.streams + [.stream(Self.stat(port), to: cluster, log: self.settings.streamLog, waits: waits)]
    }

    private static func stat(_ port: UInt16?) -> String { "inbound_0.0.0.0_\(port.map(String.init) ?? "catchall")" }

    private mutating func requests(_ port: UInt16?, _ cluster: String) -> EnvoyFilter {
        let routes = self.addresses.isEmpty ? cluster : "hbone/\(cluster)"
        if self.routesByName[routes] == nil { self.routesByName[routes] = self.routes(routes, port, cluster) }
        var manager = EnvoyHTTPConnectionManager()
        manager.statPrefix = Self.stat(port)
        manager.forwarding()
        // What policies see is what the application sees.
        manager.normalizePath = true
        manager.pathWithEscapedSlashesAction = .keepUnchanged
        manager.forwardClientCertDetails = .appendForward
        manager.setCurrentClientCertDetails.subject = true
        manager.setCurrentClientCertDetails.uri = true
        manager.rds = .with {
            $0.routeConfigName = routes
            $0.configSource = .sameStream
        }
        manager.httpFilters =
            RequestPlaces.filters + self.gate.rates + [
                EnvoyHTTPFilter(EnvoyNames.router, EnvoyRouter.with { $0.suppressEnvoyHeaders = true })
            ]
        manager.accessLog = self.settings.requestLog
        return EnvoyFilter(EnvoyNames.connectionManager, manager)
    }

    /// One way, to the application, and what is asked on it. Of what came out of a tunnel policies ask in another way.
    private func routes(_ name: String, _ port: UInt16?, _ cluster: String) -> EnvoyResource {
        let configuration = EnvoyRouteConfiguration.with { configuration in
            configuration.name = name
            // Said by another sidecar to this one, and not to the application.
            configuration.requestHeadersToRemove = ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"]
            configuration.virtualHosts = [
                .with { host in
                    host.name = "inbound|http|\(port ?? 0)"
                    host.domains = ["*"]
                    host.routes = [self.route(cluster)]
                }
            ]
        }
        return EnvoyResource(configuration.name, configuration)
    }

    private func route(_ cluster: String) -> EnvoyRoute {
        .with {
            $0.name = "default"
            $0.match.prefix = "/"
            $0.typedPerFilterConfig = self.gate.ofRoute(isMutual: self.isStrict)
            $0.route.cluster = cluster
            $0.route.timeout = .of(seconds: 0)
            // A connection that the application had closed before it saw the request.
            $0.route.retryPolicy.retryOn = "reset-before-request"
            $0.route.retryPolicy.numRetries = Google_Protobuf_UInt32Value(2)
        }
    }
}

extension EnvoyListenerFilter {
    /// Everywhere but on these ports.
    fileprivate func except(on ports: Set<UInt16>) -> EnvoyListenerFilter {
        if ports.isEmpty { return self }
        var filter = self
        let unwanted = ports.sorted().map { port in
            EnvoyListenerPredicate.with {
                $0.destinationPortRange.start = Int32(port)
                $0.destinationPortRange.end = Int32(port) + 1
            }
        }
        filter.filterDisabled = unwanted.count == 1 ? unwanted[0] : .with { $0.orMatch.rules = unwanted }
        return filter
    }
}
