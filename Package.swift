// swift-tools-version:6.2
import PackageDescription

// Arrows point down: a target may depend only on targets of a lower layer (docs/architecture.md lists
// them; Tests/LayeringTests fails with the reason when one points up).

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .treatAllWarnings(as: .error),
]

func nio(_ name: String) -> Target.Dependency { .product(name: name, package: "swift-nio") }
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")
let x509 = Target.Dependency.product(name: "X509", package: "swift-certificates")
let asn1 = Target.Dependency.product(name: "SwiftASN1", package: "swift-asn1")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let grpcCore = Target.Dependency.product(name: "GRPCCore", package: "grpc-swift-2")
let grpcNIO = Target.Dependency.product(name: "GRPCNIOTransportHTTP2", package: "grpc-swift-nio-transport")
let grpcProtobuf = Target.Dependency.product(name: "GRPCProtobuf", package: "grpc-swift-protobuf")
let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let http = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let collections = Target.Dependency.product(name: "Collections", package: "swift-collections")

func target(
    _ name: String, _ dependencies: [Target.Dependency] = [], path: String? = nil,
    resources: [Resource]? = nil, exclude: [String] = []
) -> Target {
    .target(
        name: name, dependencies: dependencies, path: path, exclude: exclude, resources: resources,
        swiftSettings: strict)
}

func test(
    _ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil, exclude: [String] = []
) -> Target {
    .testTarget(
        name: name, dependencies: dependencies, exclude: exclude, resources: resources, swiftSettings: strict)
}

// Fuzz/run.sh builds its driver with libFuzzer, whose main function no ordinary build could link.
let fuzzer: (swift: [SwiftSetting], linker: [LinkerSetting]) =
    Context.environment["MARTLET_LIBFUZZER"] == nil
    ? ([], [])
    : (
        [.define("MARTLET_LIBFUZZER"), .unsafeFlags(["-parse-as-library"])], [.unsafeFlags(["-sanitize=fuzzer"])]
    )

let package = Package(
    name: "martlet",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "martlet", targets: ["martlet"]),
        .executable(name: "martlet-cni", targets: ["martlet-cni"]),
        .executable(name: "martlet-lab", targets: ["martlet-lab"]),
        .executable(name: "martlet-bench", targets: ["martlet-bench"]),
        .executable(name: "martlet-control-bench", targets: ["martlet-control-bench"]),
        .executable(name: "martlet-feed", targets: ["martlet-feed"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        // Exact: CMeshLoop uses the BoringSSL copy inside (CNIOBoringSSL), which is no declared product.
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        // The certificate reloader of gRPC's TLS; the version that gRPC itself asks for.
        .package(url: "https://github.com/apple/swift-nio-extras.git", from: "1.31.0"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.9.2"),
        .package(url: "https://github.com/grpc/grpc-swift-protobuf", from: "2.4.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // Executables: argv decides the role.
        .executableTarget(
            name: "martlet",
            dependencies: [
                "MeshProxy", "MeshWaypoint", "MeshAgent", "MeshControl", "MeshNode", "MeshCLI", arguments, log,
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "martlet-cni", dependencies: ["MeshCNI"],
            swiftSettings: strict,
            // It is copied to nodes, which have neither Swift's libraries nor, some of them, our C library.
            linkerSettings: [.unsafeFlags(["-static-executable"])]),
        .executableTarget(
            name: "martlet-lab", dependencies: ["LabCluster", "LabNode", arguments, log], path: "Lab/martlet-lab",
            swiftSettings: strict),
        // One half of a tunnel pair, for Benchmarks/run.sh; never in the production image.
        .executableTarget(
            name: "martlet-bench",
            dependencies: [
                "MeshExchange", "MeshTunnel", "MeshRoutes", "MeshHTTP", "MeshLoop", "MeshPolicy", "MeshModel",
                "MeshIdentity",
            ],
            path: "Benchmarks/TunnelPair", swiftSettings: strict),
        // Promises about every parser of outside bytes, and what drives them: Fuzz/README.md.
        target(
            "MeshFuzz",
            [
                "MeshHTTP", "MeshRoutes", "MeshTokens", "MeshZDS", "MeshXDS", "MeshProto", "MeshProxy", "MeshDirectory",
                "MeshTunnel", "MeshDNS", "MeshModel", "MeshIdentity", "MeshLoop", crypto, protobuf,
            ],
            path: "Fuzz/Drivers"),
        .executableTarget(
            name: "martlet-fuzz", dependencies: ["MeshFuzz"], path: "Fuzz/martlet-fuzz",
            swiftSettings: strict + fuzzer.swift, linkerSettings: fuzzer.linker),
        .executableTarget(
            name: "martlet-feed",
            dependencies: [
                "MeshControl", "MeshXDS", "MeshCA", "MeshChannel", "MeshProto", "MeshModel", "MeshIdentity", "KubeAPI",
                "KubeClient", grpcCore, grpcNIO, log,
            ],
            path: "Benchmarks/MeshFeed", swiftSettings: strict),

        // The control plane's index and xDS server over generated objects: how long, how big.
        .executableTarget(
            name: "martlet-control-bench", dependencies: ["MeshControl", "MeshXDS", "MeshProto", "KubeAPI"],
            path: "Benchmarks/ControlPlane", swiftSettings: strict),

        // Roles: they wire things together and never import each other.
        target(
            "MeshProxy",
            [
                "MeshDirectory", "MeshCertificates", "MeshProcess", "MeshTunnel", "MeshXDS", "MeshZDS", "MeshCA",
                "MeshChannel", "MeshTelemetry", "MeshPolicy", "MeshNameService", "MeshDNS",
                "MeshModel", "MeshIdentity", "MeshLoop", "MeshLinux", nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"),
                log,
                lifecycle, collections, x509, yams,
            ]),
        target(
            "MeshWaypoint",
            [
                "MeshDirectory", "MeshCertificates", "MeshProcess", "MeshExchange", "MeshTunnel", "MeshRoutes",
                "MeshTokens", "MeshHTTP", "MeshXDS", "MeshCA", "MeshChannel", "MeshTelemetry", "MeshPolicy",
                "MeshModel", "MeshIdentity", "MeshLoop", "MeshLinux", nio("NIOCore"), nio("NIOPosix"), http, log,
                collections,
            ]),
        // The agent beside an Envoy.
        target(
            "MeshAgent",
            [
                "MeshCertificates", "MeshProcess", "MeshTunnel", "MeshXDS", "MeshEnvoy", "MeshCA", "MeshChannel",
                "MeshTelemetry", "MeshNameService", "MeshDNS", "MeshModel", "MeshIdentity", "MeshLinux", "KubeAPI",
                grpcCore, grpcNIO, nio("NIOCore"), nio("NIOPosix"), nioSSL, http, log,
            ]),
        target(
            "MeshControl",
            [
                "MeshInjection", "MeshXDS", "MeshEnvoy", "MeshCA", "MeshChannel", "KubeClient", "KubeAPI",
                "MeshCollections",
                "MeshRoutes", "MeshDNS",
                "MeshPolicy", "MeshModel", "MeshIdentity", "MeshTelemetry", "MeshLinux", nio("NIOCore"),
                nio("NIOPosix"), nioSSL, log,
                .product(name: "NIOCertificateReloading", package: "swift-nio-extras"), lifecycle, grpcCore,
                grpcNIO, crypto, yams, http,
            ]),
        target(
            "MeshNode",
            [
                "MeshZDS", "MeshCNI", "KubeClient", "KubeAPI", "MeshNameService", "MeshModel", "MeshLinux",
                "MeshTelemetry",
                nio("NIOCore"),
                nio("NIOPosix"), nio("NIOHTTP1"), log, lifecycle, yams,
            ]),
        target(
            "MeshCLI",
            [
                "MeshInjection", "KubeClient", "KubeAPI", "MeshModel", "MeshIdentity", "MeshLinux", nio("NIOCore"),
                nio("NIOPosix"),
                arguments, log, yams,
            ],
            resources: [
                .embedInCode("Manifests/crds.yaml"), .embedInCode("Manifests/gateway-api.yaml"),
                .embedInCode("Manifests/gateway-routes.yaml"),
                .embedInCode("Manifests/istiod.yaml"), .embedInCode("Manifests/injector.yaml"),
                .embedInCode("Manifests/cni.yaml"), .embedInCode("Manifests/ztunnel.yaml"),
            ]),

        // What several roles stand on: the mesh as the control plane told it, certificates, a process's beginning and end.
        target(
            "MeshDirectory",
            [
                "MeshXDS", "MeshTelemetry", "MeshTunnel", "MeshPolicy", "MeshModel", "MeshIdentity", "MeshLinux",
                collections,
            ]),
        target(
            "MeshCertificates",
            ["MeshCA", "MeshTelemetry", "MeshTunnel", "MeshLoop", "MeshIdentity", "MeshLinux", x509, asn1, log]),
        // How a sidecar gets into a pod: pure, for the webhook and for the command line.
        target("MeshInjection", ["KubeClient", "KubeAPI"]),
        target("MeshProcess", ["MeshXDS", "MeshChannel", "MeshTelemetry", "MeshLoop", "MeshLinux", log, yams]),

        // Conversations with the outside.
        target(
            "MeshXDS",
            [
                "MeshProto", "MeshChannel", "MeshRoutes", "MeshDNS", "MeshModel", "MeshIdentity", grpcCore, grpcNIO,
                grpcProtobuf, protobuf, crypto, log,
            ]),
        // Envoy's configuration, made from the same values that our own waypoint follows.
        target("MeshEnvoy", ["MeshProto", "KubeAPI", "MeshRoutes", "MeshDNS", "MeshModel", "MeshIdentity", protobuf]),
        // Questions for names: their sockets, who answers them, and the way to the resolvers.
        target("MeshNameService", ["MeshDNS", "MeshModel", "MeshLoop", nio("NIOCore"), nio("NIOPosix"), log]),
        // JSON Web Tokens: what the waypoint's engine asks, without knowing cryptography.
        target("MeshTokens", ["MeshRoutes", "MeshHTTP", "KubeAPI", crypto, cryptoExtras]),
        target("MeshZDS", ["MeshLinux", log]),
        // Linked into the CNI plugin: no NIO, no Foundation, here and in what it imports.
        target("MeshCNI", ["KubeAPI", "MeshModel", "MeshLinux"]),
        target(
            "MeshCA",
            [
                "MeshProto", "MeshChannel", "MeshModel", "MeshIdentity", grpcCore, grpcNIO, grpcProtobuf, protobuf,
                x509, asn1, crypto, log,
            ]),
        target(
            "KubeClient",
            [
                "KubeAPI", http, nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"), nio("NIOWebSocket"),
                nio("NIOFoundationCompat"), nioSSL, log, yams,
            ]),
        target(
            "MeshTelemetry",
            [
                "MeshModel", nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"), log,
                .product(name: "NIOHTTPCompression", package: "swift-nio-extras"),
            ]),

        // Wire types.
        target("MeshProto", [protobuf, grpcCore, grpcProtobuf], exclude: ["Protos"]),
        target("MeshChannel", [grpcCore, grpcNIO, nio("NIOCore"), nioSSL]),
        target("KubeAPI"),

        // The byte path.
        target(
            "MeshExchange",
            ["MeshTunnel", "MeshRoutes", "MeshLoop", "MeshHTTP", "MeshPolicy", "MeshModel", "MeshIdentity"]),
        target("MeshTunnel", ["MeshLoop", "MeshHTTP", "MeshPolicy", "MeshModel", "MeshIdentity", "MeshLinux"]),
        // What a waypoint does with a request: values and pure decisions, in terms of the codec's fields.
        target("MeshRoutes", ["MeshHTTP", "MeshPolicy", "MeshModel", "MeshIdentity"]),
        target("MeshHTTP"),
        target("MeshLoop", ["CMeshLoop", "MeshModel", "MeshIdentity", "MeshLinux"]),
        // C++: depending on NIOSSL makes <CNIOBoringSSL.h> visible to it.
        .target(name: "CMeshLoop", dependencies: [nioSSL]),

        // Values and pure decisions: the standard library only.
        target("MeshCollections"),
        target("MeshPolicy", ["MeshModel", "MeshIdentity"]),
        target("MeshDNS", ["MeshModel"]),
        target("MeshIdentity"),
        target("MeshModel", ["MeshIdentity"]),

        // The kernel, fenced.
        target("MeshLinux", ["CMeshLinux"]),
        .target(name: "CMeshLinux"),

        target("MeshTestSupport", ["MeshLoop", "MeshLinux", "MeshModel", "MeshIdentity", x509, crypto, asn1]),

        // The lab: knows Kubernetes and hosts, not the mesh.
        target(
            "LabAPIServer",
            [
                "KubeAPI", "KubeClient", nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"), nio("NIOWebSocket"),
                nio("NIOFoundationCompat"), nio("NIOTLS"), nioSSL, log, grdb, collections, x509, crypto, asn1, yams,
            ], path: "Lab/LabAPIServer"),
        target(
            "LabControllers", ["MeshDNS", "KubeAPI", "KubeClient", nio("NIOCore"), nio("NIOPosix"), log],
            path: "Lab/LabControllers"),
        // fork, namespaces, mounts and terminals, which Swift cannot do safely by itself.
        .target(name: "CLabNode", path: "Lab/CLabNode", linkerSettings: [.linkedLibrary("z")]),
        target(
            "LabNode",
            [
                "CLabNode", "KubeAPI", "KubeClient", "MeshLinux", nio("NIOCore"), nio("NIOPosix"), nio("NIOHTTP1"),
                nio("NIOWebSocket"), nioSSL, log,
            ], path: "Lab/LabNode"),
        target(
            "LabCluster",
            [
                "LabAPIServer", "LabControllers", "LabNode", "KubeAPI", "KubeClient", "MeshLinux", nio("NIOCore"),
                nio("NIOPosix"), arguments, log,
            ], path: "Lab/LabCluster"),

        test("MeshModelTests", ["MeshModel", "MeshIdentity"]),
        test("MeshDNSTests", ["MeshDNS", "MeshModel"]),
        test("MeshPolicyTests", ["MeshPolicy", "MeshModel", "MeshIdentity"]),
        test(
            "MeshHTTPTests", ["MeshHTTP", "MeshTestSupport"],
            resources: [
                .embedInCode("Golden/conversations.txt"), .embedInCode("Golden/hpack-python.txt"),
            ], exclude: ["Golden/make.py"]),
        test("MeshRoutesTests", ["MeshRoutes", "MeshHTTP", "MeshPolicy", "MeshModel", "MeshIdentity"]),
        test(
            "MeshTokensTests",
            ["MeshTokens", "MeshRoutes", "MeshHTTP", "MeshModel", "KubeAPI", crypto, cryptoExtras],
            resources: [.embedInCode("Golden/tokens.txt")], exclude: ["Golden/make.py"]),
        test("MeshLoopTests", ["MeshLoop", "MeshModel", "MeshTestSupport"]),
        test(
            "MeshTunnelTests",
            [
                "MeshTunnel", "MeshLoop", "MeshHTTP", "MeshPolicy", "MeshModel", "MeshIdentity", "MeshLinux",
                "MeshTestSupport",
            ]),
        test(
            "MeshExchangeTests",
            [
                "MeshExchange", "MeshTunnel", "MeshRoutes", "MeshLoop", "MeshHTTP", "MeshPolicy", "MeshModel",
                "MeshIdentity", "MeshTestSupport", "MeshLinux",
            ], exclude: ["Programs"]),
        test(
            "MeshProxyTests",
            [
                "MeshProxy", "MeshDirectory", "MeshCertificates", "MeshProcess", "MeshTunnel", "MeshPolicy",
                "MeshModel", "MeshIdentity", "MeshTelemetry", "MeshZDS",
                "MeshXDS", "MeshNameService", "MeshDNS",
                "MeshCA", "MeshChannel", "MeshLinux", "MeshTestSupport", log, x509, crypto, nio("NIOCore"),
                nio("NIOPosix"),
            ]),
        test(
            "MeshCertificatesTests",
            [
                "MeshCertificates", "MeshCA", "MeshTelemetry", "MeshTunnel", "MeshIdentity", "MeshTestSupport", log,
            ]),
        test("MeshProcessTests", ["MeshProcess"]),
        test(
            "MeshWaypointTests",
            [
                "MeshWaypoint", "MeshDirectory", "MeshCertificates", "MeshProcess", "MeshExchange", "MeshTunnel",
                "MeshRoutes", "MeshHTTP", "MeshXDS", "MeshCA", "MeshTelemetry", "MeshModel", "MeshIdentity",
                "MeshTestSupport", log,
            ]),
        test(
            "MeshAgentTests",
            [
                "MeshAgent", "MeshControl", "MeshEnvoy", "MeshXDS", "MeshCA", "MeshChannel", "MeshCertificates",
                "MeshProcess", "MeshTelemetry", "MeshRoutes", "MeshNameService", "MeshDNS", "MeshModel", "MeshIdentity",
                "MeshTestSupport", "KubeAPI", nio("NIOPosix"), log,
            ]),
        test("MeshTelemetryTests", ["MeshTelemetry", "MeshTestSupport", log, nio("NIOCore"), nio("NIOPosix")]),
        test(
            "MeshEnvoyTests",
            [
                "MeshEnvoy", "MeshXDS", "MeshProto", "MeshChannel", "MeshRoutes", "MeshModel", "MeshIdentity",
                "MeshTestSupport", grpcCore, grpcNIO, protobuf, log,
            ]),
        test(
            "MeshXDSTests",
            [
                "MeshXDS", "MeshCA", "MeshChannel", "MeshProto", "MeshRoutes", "MeshDNS", "MeshModel", "MeshIdentity",
                grpcCore, grpcNIO, nio("NIOCore"), nio("NIOEmbedded"), protobuf, log,
            ]),
        test(
            "MeshCATests",
            ["MeshCA", "MeshChannel", "MeshTestSupport", "MeshIdentity", grpcCore, grpcNIO, x509, crypto, log]),
        test("MeshInjectionTests", ["MeshInjection", "KubeAPI", "KubeClient"]),
        test("MeshZDSTests", ["MeshZDS", "MeshLinux", log]),
        test("MeshCNITests", ["MeshCNI", "KubeAPI", "MeshLinux", "MeshModel"]),
        test("MeshCollectionsTests", ["MeshCollections"]),
        test(
            "MeshControlTests",
            [
                "MeshControl", "MeshXDS", "MeshEnvoy", "MeshDNS", "MeshCA", "MeshChannel", "KubeAPI", "KubeClient",
                "MeshModel", "MeshIdentity", "MeshPolicy", "MeshRoutes", "MeshTelemetry", "MeshLinux",
                "MeshTestSupport", "MeshCLI",
                "LabAPIServer", x509, nio("NIOPosix"), log,
            ]),
        test(
            "MeshNodeTests", ["MeshNode", "MeshCNI", "MeshZDS", "MeshLinux", "MeshModel", "KubeAPI", "KubeClient", log]),
        test("MeshLinuxTests", ["MeshLinux"]),
        test(
            "MeshCLITests", ["MeshCLI", "KubeAPI", "KubeClient", "LabAPIServer", log], exclude: ["Fixtures"]),
        test("KubeAPITests", ["KubeAPI"]),
        test("KubeClientTests", ["KubeClient", "KubeAPI"]),
        test(
            "LabAPIServerTests", ["LabAPIServer", "LabNode", "KubeAPI", "KubeClient", "MeshTestSupport", crypto, log]),
        test("LabControllersTests", ["LabControllers", "MeshDNS", "LabAPIServer", "KubeAPI", "KubeClient", log]),
        test("LabNodeTests", ["LabNode", "KubeAPI", "KubeClient", "MeshLinux", log]),
        test("LabClusterTests", ["LabCluster", "LabNode", "KubeAPI", "KubeClient", arguments]),
        test("FuzzTests", ["MeshFuzz"]),
        test("LayeringTests", []),
    ],
    cxxLanguageStandard: .cxx17
)
