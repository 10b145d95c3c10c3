import Foundation
import KubeAPI

/// What a host image runs: programs of this machine over an overlay of its root file system, instead of layers from a
/// registry that no lab can reach.
package struct HostImage: Hashable, Sendable {
    package init(
        entrypoint: [String] = [], command: [String] = [], environment: [String: String] = [:], binds: [Bind] = []
    ) {
        self.entrypoint = entrypoint
        self.command = command
        self.environment = environment
        self.binds = binds
    }

    package struct Bind: Hashable, Sendable {
        package init(source: String, target: String) {
            self.source = source
            self.target = target
        }

        /// On the host.
        package var source: String
        /// In the container.
        package var target: String
    }
    /// As in an image configuration: what `command:` replaces.
    package var entrypoint: [String] = []
    /// What `args:` replaces; also dropped when only `command:` is given.
    package var command: [String] = []
    package var environment: [String: String] = [:]
    package var workingDirectory = "/"
    package var user: Int64 = 0
    package var group: Int64 = 0
    /// Read-only binds into the container.
    package var binds: [Bind] = []
}

/// Why there is no image of a name.
package struct UnknownImage: Error, Hashable, CustomStringConvertible {
    package var description: String
}

/// Which images the lab has, by full repository name.
///
/// The built-in ones can be extended and replaced with a JSON file:
///
/// ```json
/// {"images": {"docker.io/acme/api": {"entrypoint": ["/opt/acme/api"], "command": ["--port=80"],
///   "env": {"MODE": "lab"}, "workingDir": "/", "user": 1000, "group": 1000,
///   "binds": [{"source": "/srv/acme", "target": "/opt/acme"}]}}}
/// ```
///
/// The file is read again for each container, so that images can be imported into a running cluster.
///
/// A name without a tag stands for all tags; one that ends in `*` for all repositories with that beginning.
package struct ImageCatalogue: Sendable {
    /// Where an installation keeps what the built-in images need besides the programs of the distribution.
    package static let dataDirectory = "/var/lib/martlet-lab/images"

    package private(set) var images: [String: HostImage] = [:]
    /// Additions, as above; a file that does not exist adds nothing.
    package var file: String?

    package init() {}

    /// The directory of the running program: the other programs of this installation are beside it.
    package static func installationDirectory() -> String {
        let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "/usr/bin/x"
        return (program as NSString).deletingLastPathComponent
    }

    package static func builtIn(installation: String, data: String = dataDirectory) -> ImageCatalogue {
        var catalogue = ImageCatalogue()
        let shell = HostImage(command: ["sh"])
        for name in ["busybox", "alpine", "debian", "ubuntu", "nicolaka/netshoot"] { catalogue.add(name, shell) }
        catalogue.add("python", HostImage(command: ["python3"]))
        // The image's entry point script takes words that are no options as a program to run; so does `env`-less sh.
        catalogue.add(
            "curlimages/curl",
            HostImage(
                entrypoint: ["sh", "-c", #"case "$1" in -*|*://*|"") exec curl "$@";; *) exec "$@";; esac"#, "curl"]))
        catalogue.add("nginx", HostImage(command: ["nginx", "-g", "daemon off;"]))
        let python = self.pythonEnvironment(installation: installation, data: data)
        let httpbin = HostImage(
            command: [
                "\(python)/bin/gunicorn", "-b", "0.0.0.0:80", "httpbin:app", "-k", "gthread",
            ],
            environment: ["PYTHONUNBUFFERED": "1"], binds: [.init(source: python, target: python)])
        for name in ["kennethreitz/httpbin", "kong/httpbin"] { catalogue.add(name, httpbin) }
        for version in ["v1", "v2"] {
            catalogue.add(
                "istio/examples-helloworld-\(version)",
                HostImage(
                    command: ["python3", "-u", "-c", Self.helloWorld],
                    environment: ["SERVICE_VERSION": version]))
        }
        // The echo server of the Gateway API's conformance tests, and its client as a program of the container.
        let echo = self.echoServer(installation: installation, data: data)
        let echoServer = HostImage(
            entrypoint: ["\(python)/bin/python", "-u", "/opt/echo/server.py"],
            environment: ["ECHO_PYTHON": "\(python)/bin/python"],
            binds: [
                .init(source: python, target: python), .init(source: echo, target: "/opt/echo"),
                .init(source: "\(echo)/client", target: "/usr/local/bin/client"),
            ])
        for name in ["echo-basic", "echo-advanced"] {
            catalogue.add("gcr.io/k8s-staging-gateway-api/\(name)", echoServer)
        }
        catalogue.addArgo(self.standIn("argo.py", installation: installation, data: data))
        catalogue.add("registry.k8s.io/pause", HostImage(command: ["sleep", "infinity"]))
        let programs = ["martlet", "martlet-cni"].map {
            HostImage.Bind(source: "\(installation)/\($0)", target: "/usr/local/bin/\($0)")
        }
        catalogue.add("martlet/martlet", HostImage(entrypoint: ["/usr/local/bin/martlet"], binds: programs))
        let envoy = HostImage.Bind(
            source: self.tool("envoy", installation: installation, data: data), target: "/usr/local/bin/envoy")
        catalogue.add("martlet/proxy", HostImage(entrypoint: ["/usr/local/bin/martlet"], binds: programs + [envoy]))
        return catalogue
    }

    /// The virtual environment that has httpbin and gunicorn: of the installation, or of the source tree that the
    /// program was built in (`make prepare` makes it).
    private static func pythonEnvironment(installation: String, data: String) -> String {
        var directory = installation
        // .build/<triple>/release is three below the tree.
        for _ in 0..<4 {
            let candidate = "\(directory)/.tools/python"
            if FileManager.default.isExecutableFile(atPath: "\(candidate)/bin/gunicorn") { return candidate }
            directory = (directory as NSString).deletingLastPathComponent
        }
        return "\(data)/httpbin"
    }

    /// A program that `make prepare` got: of the source tree, or of the installation.
    private static func tool(_ name: String, installation: String, data: String) -> String {
        var directory = installation
        for _ in 0..<4 {
            // What is bound into a container has to be the program, and not a link that leads to nowhere there.
            let candidate = URL(fileURLWithPath: "\(directory)/.tools/bin/\(name)").resolvingSymlinksInPath().path
            if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
            directory = (directory as NSString).deletingLastPathComponent
        }
        return "\(data)/\(name)"
    }

    /// The folder of the echo server: of the source tree, or of the installation.
    private static func echoServer(installation: String, data: String) -> String {
        var directory = installation
        for _ in 0..<4 {
            let candidate = "\(directory)/Tests/EndToEnd/echo"
            if FileManager.default.fileExists(atPath: "\(candidate)/server.py") { return candidate }
            directory = (directory as NSString).deletingLastPathComponent
        }
        return "\(data)/echo"
    }

    /// A program of the folder of stand-ins: of the source tree, or of the installation.
    private static func standIn(_ name: String, installation: String, data: String) -> String {
        var directory = installation
        for _ in 0..<4 {
            let candidate = "\(directory)/Lab/StandIns/\(name)"
            if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
            directory = (directory as NSString).deletingLastPathComponent
        }
        return "\(data)/\(name)"
    }

    /// Argo CD and Argo Rollouts with what they need, as one program of ours that knows by its name whom it stands for.
    private mutating func addArgo(_ program: String) {
        func image(_ entrypoint: [String], _ targets: [String], user: Int64) -> HostImage {
            var image = HostImage(
                entrypoint: entrypoint, binds: targets.map { .init(source: program, target: $0) })
            (image.user, image.group) = (user, user)
            return image
        }
        let names = [
            "", "-server", "-repo-server", "-application-controller", "-applicationset-controller", "-notifications",
            "-dex",
        ]
        self.add("quay.io/argoproj/argocd", image([], names.map { "/usr/local/bin/argocd\($0)" }, user: 999))
        self.add("ghcr.io/dexidp/dex", image([], ["/usr/local/bin/argocd-dex"], user: 1001))
        self.add("redis", image(["/usr/local/bin/redis-server"], ["/usr/local/bin/redis-server"], user: 999))
        let rollouts = "/usr/local/bin/rollouts-controller"
        self.add("quay.io/argoproj/argo-rollouts", image([rollouts], [rollouts], user: 999))
    }

    /// What istio's helloworld sample answers.
    package static let helloWorld = """
        import os, socket
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self):
                known = {"/hello": 200, "/health": 200}.get(self.path.split("?")[0], 404)
                text = "Hello version: %s, instance: %s\\n" % (
                    os.environ.get("SERVICE_VERSION", "v1"), socket.gethostname())
                if self.path.startswith("/health"): text = "Helloworld is healthy"
                if known == 404: text = "not found: the paths are /hello and /health\\n"
                self.send_response(known)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())
        ThreadingHTTPServer(("", 5000), Handler).serve_forever()
        """

    package mutating func add(_ name: String, _ image: HostImage) {
        self.images[Self.key(name)] = image
    }

    private static func key(_ name: String) -> String {
        if name.hasSuffix("*") { return ImageReference(String(name.dropLast())).repository + "*" }
        let reference = ImageReference(name)
        // A tag counts only when it was written.
        return name.split(separator: "/").last?.contains(":") == true ? reference.description : reference.repository
    }

    package struct Invalid: Error, CustomStringConvertible {
        package let description: String
    }

    package mutating func add(file: String) throws {
        guard let data = FileManager.default.contents(atPath: file) else {
            throw Invalid(description: "cannot read the image catalogue \(file)")
        }
        let json: JSONValue
        do { json = try JSONValue(parsing: Array(data)) } catch {
            throw Invalid(description: "image catalogue \(file): \(error)")
        }
        guard let images = json["images"]?.object else {
            throw Invalid(description: "image catalogue \(file): wanted an object with a member \"images\"")
        }
        for (name, entry) in images { self.add(name, try Self.image(entry, name: name, file: file)) }
    }

    private static func image(_ json: JSONValue, name: String, file: String) throws -> HostImage {
        let known: Set = ["entrypoint", "command", "env", "workingDir", "user", "group", "binds"]
        guard let members = json.object, members.keys.allSatisfy(known.contains) else {
            throw Invalid(
                description:
                    "image catalogue \(file): \(name) has members besides \(known.sorted().joined(separator: ", "))")
        }
        var image = HostImage()
        image.entrypoint = json["entrypoint"]?.array?.compactMap(\.string) ?? []
        image.command = json["command"]?.array?.compactMap(\.string) ?? []
        image.environment = json["env"]?.stringMap ?? [:]
        image.workingDirectory = json["workingDir"]?.string ?? "/"
        image.user = json["user"]?.int ?? 0
        image.group = json["group"]?.int ?? 0
        image.binds = try (json["binds"]?.array ?? []).map { bind in
            guard let source = bind["source"]?.string, let target = bind["target"]?.string else {
                throw Invalid(description: "image catalogue \(file): a bind of \(name) needs source and target")
            }
            return .init(source: source, target: target)
        }
        return image
    }

    /// - Throws: ``UnknownImage``, with a message that says how to make the name known.
    package func image(named name: String) throws(UnknownImage) -> HostImage {
        guard let file else { return try self.known(name) }
        var all = self
        do { try all.add(file: file) } catch { throw UnknownImage(description: "\(error)") }
        return try all.known(name)
    }

    private func known(_ name: String) throws(UnknownImage) -> HostImage {
        let reference = ImageReference(name)
        var withoutDigest = reference
        withoutDigest.digest = nil
        let pattern = self.images.keys.filter { $0.hasSuffix("*") && reference.repository.hasPrefix($0.dropLast()) }
            .max { $0.count < $1.count }
        guard
            let image = self.images[withoutDigest.description] ?? self.images[reference.repository]
                ?? pattern.flatMap({ self.images[$0] })
        else {
            throw UnknownImage(
                description:
                    "the lab has no image \"\(reference)\" and pulls from no registry; make a program of this machine available "
                    + "under its name with: martlet lab image import --host \(reference.repository)=COMMAND (or describe it "
                    + "in the cluster's images.json)")
        }
        for bind in image.binds where access(bind.source, F_OK) != 0 {
            throw UnknownImage(
                description: "the image \"\(reference)\" needs \(bind.source), which is not on this machine; "
                    + "\"make prepare\" gets what the images of the catalogue need")
        }
        return image
    }
}
