import Foundation
import KubeAPI
import LabNode
import Testing

@Suite("A pod's status")
struct StatusTests {
    let now = Date(timeIntervalSince1970: 1_700_000_000)

    func pod(_ spec: [String: JSONValue] = [:]) -> KubeObject {
        let base: [String: JSONValue] = ["containers": [["name": "a", "image": "busybox"]]]
        return KubeObject([
            "kind": "Pod", "metadata": ["name": "p", "namespace": "n", "uid": "u"],
            "spec": .object(base.merging(spec) { $1 }),
        ])
    }
    func report(_ state: ContainerReport.State, isReady: Bool = true) -> PodReport {
        var report = PodReport()
        report.isInitialized = true
        report.containers["a"] = ContainerReport(state: state, isReady: isReady, isStarted: true)
        return report
    }
    func ended(_ code: Int32) -> ContainerReport.State {
        .terminated(.init(code: code, reason: code == 0 ? "Completed" : "Error", finished: self.now))
    }

    @Test("the phase follows the containers and the restart policy")
    func phases() {
        #expect(PodReport().phase(of: self.pod()) == "Pending")
        #expect(self.report(.waiting(reason: "ContainerCreating")).phase(of: self.pod()) == "Pending")
        #expect(self.report(.running(since: self.now)).phase(of: self.pod()) == "Running")
        #expect(self.report(self.ended(1)).phase(of: self.pod()) == "Running")
        #expect(self.report(self.ended(0)).phase(of: self.pod(["restartPolicy": "OnFailure"])) == "Succeeded")
        #expect(self.report(self.ended(1)).phase(of: self.pod(["restartPolicy": "OnFailure"])) == "Running")
        #expect(self.report(self.ended(1)).phase(of: self.pod(["restartPolicy": "Never"])) == "Failed")
    }

    @Test("is ready when its containers are")
    func readiness() {
        func condition(_ report: PodReport) -> String? {
            var pod = self.pod()
            pod.json["status"] = report.status(of: pod, now: self.now)
            return pod.condition("Ready")
        }
        #expect(condition(self.report(.running(since: self.now))) == "True")
        #expect(condition(self.report(.running(since: self.now), isReady: false)) == "False")
        #expect(condition(self.report(self.ended(0))) == "False")
    }

    @Test("a condition keeps the time of its last change, and others' conditions stay")
    func transitions() {
        var pod = self.pod()
        pod.json["status"] = self.report(.running(since: self.now)).status(of: pod, now: self.now)
        let own = pod.status["conditions"]?.array ?? []
        pod.json["status"]?["conditions"] = .array(own + [["type": "example.org/gate", "status": "True"]])
        let later = self.report(.running(since: self.now)).status(of: pod, now: self.now.addingTimeInterval(60))
        #expect(later["conditions"]?.array?.count == 6)
        let times = Set((later["conditions"]?.array ?? []).compactMap { $0["lastTransitionTime"]?.string })
        #expect(times == ["2023-11-14T22:13:20Z"])
    }

    @Test("quality of service")
    func quality() {
        #expect(PodReport.qosClass(self.pod()) == "BestEffort")
        let limits: JSONValue = ["limits": ["cpu": "1", "memory": "1Gi"]]
        let whole: [String: JSONValue] = ["containers": [["name": "a", "resources": limits]]]
        #expect(PodReport.qosClass(self.pod(whole)) == "Guaranteed")
        let part: [String: JSONValue] = ["containers": [["name": "a", "resources": ["requests": ["cpu": "100m"]]]]]
        #expect(PodReport.qosClass(self.pod(part)) == "Burstable")
    }

    @Test("the wait before a restart doubles from 10 s to 5 min, and is forgotten after ten minutes of running")
    func backoff() {
        var backoff = RestartBackoff()
        #expect(
            (0..<8).map { _ in backoff.ended(after: .seconds(1)).components.seconds } == [
                0, 10, 20, 40, 80, 160, 300, 300,
            ])
        #expect(backoff.ended(after: .seconds(601)) == .zero)
    }
}

@Suite("A volume of files")
struct VolumeTests {
    let downward = DownwardAPI(
        pod: KubeObject(["metadata": ["name": "p", "namespace": "shop", "labels": ["a": "b"]]]), podIPs: [],
        nodeName: "n", nodeIP: "1.1.1.1", nodeCPUs: 1, nodeMemoryBytes: 1)

    @Test("is projected from tokens, config maps and the pod itself")
    func projected() throws {
        let volume: JSONValue = [
            "projected": [
                "defaultMode": 420,
                "sources": [
                    ["serviceAccountToken": ["path": "token", "expirationSeconds": 3607]],
                    ["configMap": ["name": "ca", "items": [["key": "ca.crt", "path": "ca.crt"]]]],
                    [
                        "downwardAPI": [
                            "items": [["path": "namespace", "fieldRef": ["fieldPath": "metadata.namespace"]]]
                        ]
                    ],
                ],
            ]
        ]
        let files = try ProjectedFiles(
            objects: ["ConfigMap/ca": KubeObject(["kind": "ConfigMap", "data": ["ca.crt": "PEM", "x": "y"]])],
            downward: self.downward,
            tokens: [ProjectedFiles.tokenKey(["path": "token", "expirationSeconds": 3607]): "jwt"]
        ).files(volume)
        #expect(
            files.mapValues { String(decoding: $0.bytes, as: UTF8.self) } == [
                "token": "jwt", "ca.crt": "PEM", "namespace": "shop",
            ])
    }

    @Test("waits for a missing secret unless it is optional")
    func optional() throws {
        let none = ProjectedFiles(objects: [:], downward: self.downward, tokens: [:])
        #expect(try none.files(["secret": ["secretName": "s", "optional": true]]).isEmpty)
        #expect(throws: ProjectedFiles.Missing.self) { try none.files(["secret": ["secretName": "s"]]) }
    }

    @Test("never leaves its directory", arguments: ["../x", "/etc/passwd", "a/../../b", "..data"])
    func traversal(path: String) {
        let files = ProjectedFiles(
            objects: ["ConfigMap/c": KubeObject(["kind": "ConfigMap", "data": ["k": "v"]])], downward: self.downward,
            tokens: [:])
        #expect(throws: ProjectedFiles.Missing.self) {
            try files.files(["configMap": ["name": "c", "items": [["key": "k", "path": .string(path)]]]])
        }
    }

    @Test("changes all at once")
    func atomic() throws {
        let directory = NSTemporaryDirectory() + "volume-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        func read(_ name: String) -> String? { try? String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8) }
        let one = ["a": ProjectedFiles.File(bytes: Array("1".utf8), mode: 0o644), "d/b": .init(bytes: [], mode: 0o600)]
        #expect(try AtomicDirectory.write(one, to: directory))
        #expect(try AtomicDirectory.write(one, to: directory) == false)
        #expect(read("a") == "1")
        #expect(read("d/b") == "")
        #expect(try AtomicDirectory.write(["a": .init(bytes: Array("2".utf8), mode: 0o644)], to: directory))
        #expect(read("a") == "2")
        #expect(read("d/b") == nil)
    }
}

@Suite("A container's log")
struct LogTests {
    static let lines = [
        "2026-11-25T20:00:00.000000001Z stdout F one", "2026-11-25T20:00:01.000000001Z stderr F two",
        "2026-11-25T20:00:02.000000001Z stdout P thr", "2026-11-25T20:00:02.000000002Z stdout F ee",
    ]

    func read(_ query: [(String, String)]) throws -> String {
        let path = NSTemporaryDirectory() + "log-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data((Self.lines.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: path))
        var reader = LogReader(path: path, LogOptions(query))
        return String(decoding: reader.start(), as: UTF8.self)
    }

    @Test("is read without its prefixes, and with times when asked")
    func plain() throws {
        #expect(try self.read([]) == "one\ntwo\nthree\n")
        #expect(
            try self.read([("timestamps", "true"), ("stream", "Stderr")]) == "2026-11-25T20:00:01.000000001Z two\n")
    }

    @Test("is cut by lines, time and bytes")
    func cut() throws {
        #expect(try self.read([("tailLines", "2")]) == "three\n")
        #expect(try self.read([("sinceTime", "2026-11-25T20:00:01Z")]) == "two\nthree\n")
        #expect(try self.read([("limitBytes", "5")]) == "one\nt")
    }
}

@Suite("The kubelet's protocols")
struct ProtocolTests {
    @Test("paths and queries")
    func requests() throws {
        let request = try #require(
            KubeletRequest(uri: "/exec/foo/p/c?command=sh&command=-c&command=a%20b+c&stdin=true&tty=1"))
        #expect(request.target == .exec(namespace: "foo", pod: "p", container: "c"))
        #expect(request.query["command"] == ["sh", "-c", "a b c"])
        #expect(request.flag("stdin") && request.flag("tty") && !request.flag("stdout"))
        #expect(KubeletRequest(uri: "/pods") == nil)
    }

    @Test("an exit code becomes the cause that kubectl reads")
    func status() {
        #expect(ExecStatus.ended(code: 0, reason: nil)["status"] == "Success")
        let status = ExecStatus.ended(code: 137, reason: nil)
        #expect(status["reason"] == "NonZeroExitCode")
        #expect(status.at("details", "causes")?[0] == ["reason": "ExitCode", "message": "137"])
        #expect(ExecStatus.ended(code: 255, reason: "no such file")["reason"] == "InternalError")
    }

    @Test("SPDY frames arrive in any pieces")
    func pieces() throws {
        var connection = SPDYConnection()
        let bytes =
            SPDYConnection.data(stream: 5, Array("hello".utf8), isEnd: true) + SPDYConnection.ping([0, 0, 0, 7])
        var frames: [SPDYConnection.Frame] = []
        for byte in bytes { frames += try connection.receive([byte]) }
        #expect(frames == [.data(stream: 5, bytes: Array("hello".utf8), isEnd: true), .ping([0, 0, 0, 7])])
    }

    @Test("SPDY headers are a zlib stream, with or without the preset dictionary")
    func headers() throws {
        var connection = SPDYConnection()
        func string(_ text: String) -> [UInt8] { [0, 0, 0, UInt8(text.utf8.count)] + Array(text.utf8) }
        let plain: [UInt8] = [0, 0, 0, 1] + string("streamtype") + string("data")
        let block: [UInt8] = [0x78, 0x01, 0, UInt8(plain.count), 0, ~UInt8(plain.count), 0xff] + plain
        let frame: [UInt8] = [0x80, 3, 0, 1, 0, 0, 0, UInt8(10 + block.count), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0] + block
        #expect(try connection.receive(frame) == [.open(stream: 1, headers: ["streamtype": "data"], isEnd: false)])
    }

    @Test(
        "malformed SPDY is an error, not a crash",
        arguments: [
            [0x80, 3, 0, 1, 0, 0, 0, 2, 1, 2], [0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9, 9],
            [0, 0, 0, 1, 0, 0xff, 0xff, 0xff],
        ] as [[UInt8]])
    func malformed(bytes: [UInt8]) {
        var connection = SPDYConnection()
        var failed = false
        do { _ = try connection.receive(bytes) } catch { failed = true }
        #expect(failed)
    }
}
