package import KubeAPI

/// Everything that decides what a container's OCI bundle says. A pure value: ``configuration`` is golden-tested.
package struct ContainerBundle: Hashable, Sendable {
    package struct Mount: Hashable, Sendable {
        package init(source: String, target: String, isReadOnly: Bool = false, propagation: String = "None") {
            self.source = source
            self.target = target
            self.isReadOnly = isReadOnly
            self.propagation = propagation
        }

        package var source: String
        package var target: String
        package var isReadOnly = false
        /// `None`, `HostToContainer`, `Bidirectional`, as in a volumeMount.
        package var propagation = "None"
    }

    package var pod: KubeObject
    package var container: ContainerSpec
    package var image: HostImage
    package var hostname: String
    package var environment: [String: String]
    package var volumeMounts: [Mount]
    /// hosts, hostname, resolv.conf, termination log.
    package var fileMounts: [Mount]
    package var root: String
    package var networkNamespace: String?
    package var cgroup: String
    /// What this machine may give: a lab in a virtual machine or a container may lack some, and runc refuses to start
    /// a container that wants more. Nil: everything.
    package var grantable: Set<String>?

    package init(
        pod: KubeObject, container: ContainerSpec, image: HostImage, hostname: String, environment: [String: String],
        volumeMounts: [Mount], fileMounts: [Mount], root: String, networkNamespace: String?, cgroup: String
    ) {
        self.pod = pod
        self.container = container
        self.image = image
        self.hostname = hostname
        self.environment = environment
        self.volumeMounts = volumeMounts
        self.fileMounts = fileMounts
        self.root = root
        self.networkNamespace = networkNamespace
        self.cgroup = cgroup
    }

    package struct Refused: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    package static let standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// The set that docker and containerd give.
    package static let standardCapabilities = [
        "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ]
    /// All, in the order of their bits (linux/capability.h).
    package static let allCapabilities = [
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
        "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
        "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
        "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
        "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
        "CHECKPOINT_RESTORE",
    ].map { "CAP_\($0)" }

    /// The capabilities of a bounding set as /proc/<pid>/status shows it; nil when it shows none.
    package static func boundingSet(ofStatus text: String) -> Set<String>? {
        let line = text.split(separator: "\n").first { $0.hasPrefix("CapBnd:") }
        guard let digits = line?.split(whereSeparator: { $0 == "\t" || $0 == " " }).last,
            let bits = UInt64(digits, radix: 16)
        else { return nil }
        return Set(self.allCapabilities.enumerated().filter { bits >> UInt64($0.offset) & 1 == 1 }.map(\.element))
    }

    private var podSecurity: JSONValue { self.pod.spec["securityContext"] ?? [:] }

    private func security(_ key: String) -> JSONValue? {
        let own = self.container.securityContext[key]
        return own == nil || own == .null ? self.podSecurity[key] : own
    }

    /// The command line: `command` replaces the image's entry point and its command, `args` only the latter.
    package func arguments() throws(Refused) -> [String] {
        func list(_ key: String) -> [String] {
            (self.container.json[key]?.array?.compactMap(\.string) ?? [])
                .map { VariableExpansion.expand($0, self.environment) }
        }
        let (command, args) = (list("command"), list("args"))
        let all =
            command.isEmpty
            ? self.image.entrypoint + (args.isEmpty ? self.image.command : args) : command + args
        if all.isEmpty { throw Refused(description: "no command specified") }
        return all
    }

    package func capabilities() -> [String] {
        self.wantedCapabilities().filter { self.grantable?.contains($0) ?? true }.sorted()
    }

    private func wantedCapabilities() -> Set<String> {
        if self.container.isPrivileged { return Set(Self.allCapabilities) }
        let wanted = self.container.securityContext["capabilities"] ?? [:]
        func names(_ key: String) -> [String] {
            (wanted[key]?.array?.compactMap(\.string) ?? []).map {
                let name = $0.uppercased()
                return name == "ALL" || name.hasPrefix("CAP_") ? name : "CAP_\(name)"
            }
        }
        let (add, drop) = (names("add"), names("drop"))
        var set = Set(add.contains("ALL") ? Self.allCapabilities : Self.standardCapabilities)
        if drop.contains("ALL"), !add.contains("ALL") { set = [] }
        set.formUnion(add.filter { $0 != "ALL" })
        set.subtract(drop.filter { $0 != "ALL" && !add.contains($0) })
        return set
    }

    package func user() throws(Refused) -> (uid: Int64, gid: Int64, groups: [Int64]) {
        let uid = self.security("runAsUser")?.int ?? self.image.user
        let gid = self.security("runAsGroup")?.int ?? (self.security("runAsUser")?.int == nil ? self.image.group : 0)
        if self.security("runAsNonRoot")?.bool == true, uid == 0 {
            throw Refused(
                description: "container has runAsNonRoot and image will run as root (pod: \(self.pod.key), "
                    + "container: \(self.container.name))")
        }
        var groups = self.podSecurity["supplementalGroups"]?.array?.compactMap(\.int) ?? []
        if let fsGroup = self.podSecurity["fsGroup"]?.int { groups.append(fsGroup) }
        return (uid, gid, groups)
    }

    private func mount(
        _ target: String, _ type: String, _ source: String, _ options: [String]
    ) -> JSONValue {
        [
            "destination": .string(target), "type": .string(type), "source": .string(source),
            "options": JSONValue(options),
        ]
    }

    private func bind(_ mount: Mount) -> JSONValue {
        let propagation =
            switch mount.propagation {
            case "Bidirectional": "rshared"
            case "HostToContainer": "rslave"
            default: "rprivate"
            }
        return self.mount(
            mount.target, "bind", mount.source, ["rbind", propagation, mount.isReadOnly ? "ro" : "rw"])
    }

    /// In the order in which runc makes them: what lies deeper comes later.
    private func mounts() -> [JSONValue] {
        let sys = self.container.isPrivileged ? "rw" : "ro"
        var mounts = [
            self.mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
            self.mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            self.mount(
                "/dev/pts", "devpts", "devpts",
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            self.mount("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            self.mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
            self.mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", sys]),
            // The lower layer is the host's root file system; its transient files are none of the pod's business.
            self.mount("/run", "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=755"]),
            self.mount("/tmp", "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=1777"]),
        ]
        let binds = self.image.binds.map { Mount(source: $0.source, target: $0.target, isReadOnly: true) }
        mounts += binds.map(self.bind)
        mounts += (self.fileMounts + self.volumeMounts)
            .sorted {
                ($0.target.split(separator: "/").count, $0.target) < ($1.target.split(separator: "/").count, $1.target)
            }
            .map(self.bind)
        return mounts
    }

    private func namespaces() -> [JSONValue] {
        var namespaces: [JSONValue] = [["type": "mount"], ["type": "ipc"], ["type": "uts"]]
        if self.pod.spec["hostPID"]?.bool != true { namespaces.append(["type": "pid"]) }
        if let networkNamespace { namespaces.append(["type": "network", "path": .string(networkNamespace)]) }
        return namespaces
    }

    private func resources() -> JSONValue {
        let everything: JSONValue = ["allow": .bool(self.container.isPrivileged), "access": "rwm"]
        var resources: JSONValue = ["devices": [everything]]
        let limits = self.container.json.at("resources", "limits")
        if let memory = limits?["memory"].flatMap(Quantity.init) {
            resources["memory"] = ["limit": .int(memory.wholeUnits)]
        }
        var cpu: [String: JSONValue] = [:]
        if let request = self.container.json.at("resources", "requests", "cpu").flatMap(Quantity.init) {
            cpu["shares"] = .int(max(2, request.milliUnits * 1024 / 1000))
        }
        if let limit = limits?["cpu"].flatMap(Quantity.init) {
            cpu["period"] = 100_000
            cpu["quota"] = .int(max(1000, limit.milliUnits * 100))
        }
        if !cpu.isEmpty { resources["cpu"] = .object(cpu) }
        return resources
    }

    /// The bundle's `config.json` (OCI runtime specification 1.0.2).
    package func configuration() throws(Refused) -> JSONValue {
        let user = try self.user()
        let capabilities = JSONValue(self.capabilities())
        let isPrivileged = self.container.isPrivileged
        var process: JSONValue = [
            "terminal": false, "args": JSONValue(try self.arguments()),
            "cwd": .string(
                self.container.json["workingDir"]?.string.flatMap { $0.isEmpty ? nil : $0 }
                    ?? self.image.workingDirectory),
            "env": JSONValue(self.environment.sorted { $0.key < $1.key }.map { "\($0)=\($1)" }),
            "user": [
                "uid": .int(user.uid), "gid": .int(user.gid), "additionalGids": .array(user.groups.map { .int($0) }),
            ],
            "capabilities": [
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            ],
            "noNewPrivileges": .bool(self.container.securityContext["allowPrivilegeEscalation"]?.bool == false),
        ]
        if user.groups.isEmpty { process["user"]?["additionalGids"] = nil }
        var linux: JSONValue = [
            "namespaces": .array(self.namespaces()), "cgroupsPath": .string(self.cgroup),
            "resources": self.resources(),
        ]
        if !isPrivileged {
            linux["maskedPaths"] = [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/sched_debug", "/sys/firmware",
            ]
            linux["readonlyPaths"] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
        let propagations = Set(self.volumeMounts.map(\.propagation))
        if propagations.contains("Bidirectional") {
            linux["rootfsPropagation"] = "rshared"
        } else if propagations.contains("HostToContainer") {
            linux["rootfsPropagation"] = "rslave"
        }
        if self.networkNamespace != nil {
            // As k3s' container runtime: any user may listen on port 80 of its own pod.
            var sysctls = ["net.ipv4.ip_unprivileged_port_start": "0"]
            for sysctl in self.podSecurity["sysctls"]?.array ?? [] {
                if let name = sysctl["name"]?.string, let value = sysctl["value"]?.string { sysctls[name] = value }
            }
            linux["sysctl"] = JSONValue(sysctls)
        }
        return [
            "ociVersion": "1.0.2", "hostname": .string(self.hostname), "process": process,
            "root": [
                "path": .string(self.root),
                "readonly": .bool(self.container.securityContext["readOnlyRootFilesystem"]?.bool ?? false),
            ],
            "mounts": .array(self.mounts()), "linux": linux,
            "annotations": [
                "io.kubernetes.cri.container-name": .string(self.container.name),
                "io.kubernetes.cri.sandbox-name": .string(self.pod.name),
                "io.kubernetes.cri.sandbox-namespace": .string(self.pod.namespace),
                "io.kubernetes.cri.sandbox-uid": .string(self.pod.uid),
            ],
        ]
    }
}
