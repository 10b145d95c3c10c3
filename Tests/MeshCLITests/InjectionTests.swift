import KubeAPI
import KubeClient
import MeshCLI
import MeshInjection
import Testing

/// `x check-inject`, `x injector list` and what `kube-inject` reads, over an API server with what the installer installs.
@Suite("Injection on the command line", .serialized)
struct InjectionCommandTests {
    private static func shop() async throws -> Shop {
        let shop = try await Shop(kinds: false)
        try await shop.cluster.create(.namespaces, KubeObject(.namespaces, name: "istio-system"))
        for object in try Components.render(InstallValues()).flatMap(\.objects) {
            switch object.kind {
            case "MutatingWebhookConfiguration":
                // Nobody serves it here, and pods are to be made.
                var object = object
                let webhooks = (object.json["webhooks"]?.array ?? []).map { webhook in
                    var webhook = webhook
                    webhook["failurePolicy"] = "Ignore"
                    return webhook
                }
                object.json["webhooks"] = .array(webhooks)
                try await shop.cluster.create(.mutatingWebhookConfigurations, object)
            case "ConfigMap" where ["istio", "istio-sidecar-injector"].contains(object.name):
                try await shop.cluster.create(.configMaps, object)
            default: break
            }
        }
        try await shop.addNamespace("foo", labels: ["istio-injection": "enabled"])
        return shop
    }

    private static func rows(_ lines: [String]) -> [[String]] {
        lines.map { $0.split(separator: " ").map(String.init) }
    }

    @Test("says for each webhook whether it injects, and the label that decides")
    func check() async throws {
        let shop = try await Self.shop()
        let collected = Collected()
        try await InjectionCheck(cluster: shop.cluster, output: collected.output)
            .run(namespace: "foo", labels: [:], hostNetwork: false)
        let rows = Self.rows(collected.lines)
        #expect(rows[0] == ["WEBHOOK", "REVISION", "INJECTED", "REASON"] && rows.count == 5)
        let row = try #require(rows.first { $0[0] == "namespace.sidecar-injector.istio.io" })
        #expect(row[1...].joined(separator: " ") == "default ✔ namespace label istio-injection=enabled")
        #expect(rows.count { $0.contains("✔") } == 1)

        let without = Collected()
        try await InjectionCheck(cluster: shop.cluster, output: without.output)
            .run(namespace: "foo", labels: ["sidecar.istio.io/inject": "false"], hostNetwork: false)
        #expect(!without.lines.contains { $0.contains("✔") })
        await #expect(throws: CommandError.self) {
            try await InjectionCheck(cluster: shop.cluster, output: without.output)
                .run(namespace: "nowhere", labels: [:], hostNetwork: false)
        }
    }

    @Test("lists the namespaces that inject, with the revisions of their pods, and the injectors")
    func list() async throws {
        let shop = try await Self.shop()
        for (name, annotations) in [
            ("with", ["sidecar.istio.io/status": "{}", "istio.io/rev": "default"]), ("without", [:]),
        ] {
            try await shop.cluster.create(
                .pods,
                KubeObject(
                    .pods, namespace: "foo", name: name, annotations: annotations,
                    ["spec": ["containers": [["name": "c", "image": "i"]]]]))
        }
        let collected = Collected()
        try await InjectionCheck(cluster: shop.cluster, output: collected.output).list(systemNamespace: "istio-system")
        let rows = Self.rows(collected.lines)
        #expect(rows[0] == ["NAMESPACE", "ISTIO-REVISION", "POD-REVISIONS"])
        #expect(rows[1] == ["foo", "default", "<none>:", "1", "default:", "1"])
        #expect(rows.last == ["foo", "istio-sidecar-injector", "default", InstallValues().envoyImage])
    }

    @Test("files get the sidecar that the cluster's own settings describe")
    func sources() async throws {
        let shop = try await Self.shop()
        let (settings, mesh) = try await InjectionSources(cluster: shop.cluster, namespace: "istio-system").read()
        #expect(settings.image == InstallValues().envoyImage && mesh.trustDomain == "cluster.local")
        #expect(!mesh.runsNativeSidecars, "a cluster without nodes")
        let pod: JSONValue = [
            "kind": "Pod", "metadata": ["name": "p"], "spec": ["containers": [["name": "c", "image": "i"]]],
        ]
        var notes: [String] = []
        let injected = try FileInjector(SidecarInjector(settings, mesh)).inject(pod, notes: &notes)
        #expect(injected.at("spec", "containers")?.array?.count == 2)
        await #expect(throws: CommandError.self) {
            try await InjectionSources(cluster: shop.cluster, namespace: "elsewhere").read()
        }
    }
}

@Suite("Values of injection")
struct InjectionValuesTests {
    private func object(_ kind: String, _ name: String, _ settings: [(String, String)]) throws -> KubeObject {
        var values = InstallValues()
        for (path, value) in settings { try values.set(path, to: value) }
        return try #require(Components.render(values).flatMap(\.objects).first { $0.kind == kind && $0.name == name })
    }

    @Test("reach the injector's ConfigMap and its webhooks")
    func values() throws {
        let map = try self.object(
            "ConfigMap", "istio-sidecar-injector",
            [
                ("values.global.proxy.resources.limits.cpu", "500m"),
                ("values.sidecarInjectorWebhook.rewriteAppHTTPProbe", "false"),
            ])
        let settings = try InjectionSettings(data: map.json["data"]?.stringMap ?? [:])
        let values = settings.values
        #expect(values.at("global", "proxy", "resources", "limits", "cpu") == "500m")
        #expect(values.at("sidecarInjectorWebhook", "rewriteAppHTTPProbe") == false)
        #expect(settings.injectsByDefault && settings.defaultTemplates == ["sidecar"])
        func names(_ settings: [(String, String)]) throws -> [String] {
            let configuration = try self.object("MutatingWebhookConfiguration", "istio-sidecar-injector", settings)
            return InjectorWebhook.entries(of: configuration).map(\.name)
        }
        #expect(try names([]).count == 4)
        let all = try names([("values.sidecarInjectorWebhook.enableNamespacesByDefault", "true")])
        #expect(all.last == "auto.sidecar-injector.istio.io" && all.count == 5)
    }
}
