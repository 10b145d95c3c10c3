import KubeAPI
import MeshCNI
import MeshModel
import Synchronization
import Testing

@Suite("The CNI plugin")
struct CNIPluginTests {
    /// What the agent was asked, and what it answers.
    final class Agent: Sendable {
        private let asked = Mutex<[(PluginRequest.Purpose, PluginRequest)]>([])
        var requests: [PluginRequest] { self.asked.withLock { $0.map(\.1) } }
        var purposes: [PluginRequest.Purpose] { self.asked.withLock { $0.map(\.0) } }
        func note(_ purpose: PluginRequest.Purpose, _ request: PluginRequest) {
            self.asked.withLock { $0.append((purpose, request)) }
        }
        let answer: CNIPlugin.Answer
        init(_ answer: CNIPlugin.Answer) { self.answer = answer }
    }

    static let previous: JSONValue = [
        "cniVersion": "1.0.0", "interfaces": [["name": "eth0"]],
        "ips": [["interface": 0, "address": "10.1.0.9/24", "gateway": "10.1.0.1"], ["address": "fd00::9/64"]],
        "unknown": 3,
    ]

    static func configuration(_ changes: [String: JSONValue] = [:]) -> JSONValue {
        var json = CNIConfiguration(agentNamespace: "istio-system", excludedNamespaces: ["kube-system"]).chainEntry
        json["cniVersion"] = "1.0.0"
        json["prevResult"] = Self.previous
        for (key, value) in changes { json[key] = value }
        return json
    }

    func run(
        _ agent: Agent, namespace: String = "shop", name: String = "web-0", command: String = "ADD",
        netns: String = "/var/run/netns/cni-1", record: JSONValue? = nil, _ configuration: JSONValue = configuration()
    ) -> CNIPlugin.Outcome {
        let plugin = CNIPlugin(
            ask: { _, purpose, request in
                agent.note(purpose, request)
                return agent.answer
            },
            readRecord: { path in
                guard let record, path == "/var/run/istio-cni/enrolment.json" else {
                    throw CNIFailure.badConfiguration("no record")
                }
                return record.encoded
            })
        let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=\(namespace);K8S_POD_NAME=\(name);K8S_POD_UID=u1"
        return plugin.run(
            environment: [
                "CNI_COMMAND": command, "CNI_NETNS": netns, "CNI_ARGS": arguments,
            ], input: configuration.encoded)
    }

    @Test("asks the agent with the pod's namespace and addresses, and passes the chain's result on unchanged")
    func add() throws {
        let agent = Agent(.done)
        let outcome = self.run(agent)
        #expect(outcome.exitCode == 0)
        #expect(try JSONValue(parsing: outcome.standardOutput) == Self.previous)
        #expect(
            agent.requests == [
                PluginRequest(
                    networkNamespace: "/var/run/netns/cni-1", podName: "web-0", podNamespace: "shop", podUID: "u1",
                    addresses: [IPAddress("10.1.0.9")!, IPAddress("fd00::9")!])
            ])
    }

    @Test("does not start a pod that the agent refused, and says why")
    func refused() throws {
        let outcome = self.run(Agent(.refused(status: 500, reason: "no node proxy is connected")))
        #expect(outcome.exitCode == 1)
        let error = try JSONValue(parsing: outcome.standardOutput)
        #expect(error["code"] == 11)
        #expect(error["cniVersion"] == "1.0.0")
        #expect(error["msg"]?.string?.contains("no node proxy is connected") == true)
    }

    @Test("never falls back to its own decision when the agent is there but silent")
    func silent() {
        let record = EnrolmentRecord(freeNamespaces: ["shop"]).json
        #expect(self.run(Agent(.silent("timeout")), record: record).exitCode == 1)
    }

    @Test("with the agent down starts pods only where nothing is captured")
    func down() {
        let record = EnrolmentRecord(freeNamespaces: ["plain"]).json
        let down = Agent(.down("no such file"))
        #expect(self.run(down, namespace: "plain", record: record).exitCode == 0)
        let refused = self.run(down, namespace: "shop", record: record)
        #expect(refused.exitCode == 1)
        #expect(refused.standardOutput.contains("istio-cni-node"))
        #expect(self.run(down, namespace: "plain", record: nil).exitCode == 1, "no record")
        #expect(self.run(down, namespace: "plain", record: ["version": 2]).exitCode == 1, "a record of the future")
    }

    @Test("lets the agent's own pods, excluded namespaces and what is no pod through without asking")
    func through() {
        let agent = Agent(.down("down"))
        #expect(self.run(agent, namespace: "istio-system", name: "istio-cni-node-abc").exitCode == 0)
        #expect(self.run(agent, namespace: "kube-system").exitCode == 0)
        #expect(self.run(agent, namespace: "").exitCode == 0)
        #expect(self.run(agent, Self.configuration(["ambient_enabled": false])).exitCode == 0)
        #expect(agent.requests.isEmpty)
        // The name alone is not enough: anybody could take it.
        #expect(self.run(agent, namespace: "shop", name: "istio-cni-node-abc").exitCode == 1)
    }

    @Test("lets a pod's network go when its peers have been told, and in any case")
    func end() {
        for (answer, isNoted) in [
            (.done, false), (.down("no agent"), false), (.silent("no answer"), true),
            (.refused(status: 500, reason: "no"), true),
        ] as [(CNIPlugin.Answer, Bool)] {
            let agent = Agent(answer)
            let outcome = self.run(agent, command: "DEL")
            #expect(outcome.exitCode == 0)
            #expect(outcome.standardOutput == "")
            #expect((outcome.note != nil) == isNoted)
            #expect(agent.purposes == [.end])
            #expect(agent.requests.first?.podUID == "u1")
        }
        let agent = Agent(.done)
        #expect(self.run(agent, command: "DEL", netns: "").exitCode == 0, "the namespace is gone already")
        #expect(self.run(agent, namespace: "kube-system", command: "DEL").exitCode == 0)
        #expect(agent.requests.isEmpty)
    }

    @Test("answers the other commands without doing anything", arguments: ["CHECK", "GC", "STATUS"])
    func others(command: String) {
        let agent = Agent(.down("down"))
        let outcome = self.run(agent, command: command)
        #expect(outcome.exitCode == 0)
        #expect(outcome.standardOutput == "")
        #expect(agent.requests.isEmpty)
    }

    @Test("names its versions, also without a configuration")
    func version() throws {
        let outcome = CNIPlugin().run(environment: ["CNI_COMMAND": "VERSION"], input: [])
        let answer = try JSONValue(parsing: outcome.standardOutput)
        #expect(answer["supportedVersions"]?[0] == "0.1.0")
    }

    @Test("refuses what it cannot read, in the form of the CNI specification")
    func malformed() throws {
        let plugin = CNIPlugin()
        for (environment, input, code) in [
            (["CNI_COMMAND": "ADD"], "nonsense", 7), (["CNI_COMMAND": "ADD"], "{\"cniVersion\":\"9.0.0\"}", 1),
            (["CNI_COMMAND": "JUMP"], "{}", 4), ([:], "{}", 4),
        ] as [([String: String], String, Int64)] {
            let outcome = plugin.run(environment: environment, input: Array(input.utf8))
            #expect(outcome.exitCode == 1)
            #expect(try JSONValue(parsing: outcome.standardOutput)["code"]?.int == code)
        }
    }

    @Test("reads the addresses of old results")
    func oldResult() {
        let old: JSONValue = ["ip4": ["ip": "10.1.0.9/24"], "ip6": ["ip": "fd00::9/64"]]
        #expect(PluginRequest.addresses(inResult: old) == [IPAddress("10.1.0.9")!, IPAddress("fd00::9")!])
        #expect(PluginRequest.addresses(inResult: nil) == [])
    }

    @Test("its request is read back by the agent, and so is the reference's form")
    func request() throws {
        let mine = PluginRequest(
            networkNamespace: "/n", podName: "a", podNamespace: "b", podUID: "c", addresses: [IPAddress("::1")!])
        #expect(try PluginRequest(mine.json) == mine)
        let reference = try JSONValue(
            parsing: """
                {"Netns":"/var/run/netns/cni-01","PodName":"web-0","PodNamespace":"shop","IPs":[{"Interface":2,
                "Address":{"IP":"10.1.0.9","Mask":"////AA=="},"Gateway":"10.1.0.1"}]}
                """)
        #expect(try PluginRequest(reference).addresses == [IPAddress("10.1.0.9")!])
        #expect(throws: PluginRequest.Invalid.self) { try PluginRequest(["Netns": "relative"]) }
    }
}
