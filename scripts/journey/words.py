"""What the pages say between the commands, in both languages. The tutorial's readers read Korean."""

ENGLISH = {
    "title": "# The journey: the tutorial as typed\n",
    "introduction": """\
Written by `make journey` ({date}, {build} build, {machine}, {cores} cores): **{done} of {all} steps are true**, {seconds} s for all of them.
Do not edit; run it again. The same in Korean: [journey-ko.md](journey-ko.md).

The tutorial sets up Istio's ambient mode on k3d beside a sidecar. Its commands and manifests are typed byte for byte, with these
replacements: `istioctl X` is `martlet X`, `k3d cluster X` is `martlet lab X`, `docker exec -it NODE CMD` is `martlet lab exec NODE -- CMD`,
and names that differ on every machine (a process, a pod of a DaemonSet). Everything shown is what the commands said; what is
too long is cut where it says so.

**Stand-ins.** The lab has no registry to pull from: images are programs of this machine under the images' names. Argo CD's and Argo
Rollouts' `install.yaml` are ours, of the originals' shape and size (`scripts/journey/argo.py`), and their controllers, dex and redis are one program
that listens where they listen, answers their probes and serves HTTPS (`Lab/StandIns/argo.py`). They show that such manifests are
taken, patched and reached; they deploy nothing. httpbin is the real one, Envoy too.
""",
    "columns": "| Step | What | | Took |",
    "true": "true", "false": "**not true yet**",
    "failure": "**Not true yet.** What was seen instead:",
    "checked": "Checked:",
    "steps": {
        "J1": ("A cluster of five nodes", "One server and four agents, each a set of namespaces of this machine. kubectl's current context leads "
               "to the new cluster, as with k3d."),
        "J2": ("The mesh is installed", "The CNI directories are those of k3s and the tutorial gives them; the node agent puts its plugin and its entry "
               "in the chain there and nowhere else."),
        "J3": ("The installation is verified", "Every object is looked at, and then one connection to each node is made through the tunnel, which "
               "istioctl does not do."),
        "J4": ("Argo CD, its password, and a forwarded port", "The definitions are as large as the originals', just short of the limit that `kubectl apply` has for them. "
               "`stringData` of the patch is stored as base64, and the forwarded port carries HTTPS from the pod."),
        "J5": ("Argo Rollouts", "Five definitions, roles that add to the cluster's own, and the controller."),
        "J6": ("Node 0: sleep with a sidecar", "The namespace asks for injection: the control plane's webhook adds Envoy and an init step that "
               "redirects the pod's traffic. Such a pod is left alone by the node agent."),
        "J7": ("Node 1: httpbin, ambient", "No proxy comes into this pod and it is not started again; the annotation says that the node proxy takes its "
               "traffic."),
        "J8": ("The Gateway API's definitions", "They came with the mesh, so the tutorial's command finds them and has nothing to do. Definitions that "
               "are there already are left as they are by the installation."),
        "J9": ("Which namespaces are ambient", "So far one."),
        "J10": ("Node 2: a waypoint's Gateway", "`waypoint generate` only prints; the Gateway is applied as the tutorial prints it."),
        "J11": ("The waypoint", "The control plane makes a Deployment and a Service for the Gateway. The label of the namespace sends the traffic "
                "for its services there."),
        "J12": ("Node 3: helloworld", "Three applications on three nodes: one with a sidecar, one ambient, one ambient behind a waypoint."),
        "J13": ("From sleep to httpbin", "The sidecar sends the request through a tunnel to the node proxy of the other node. The origin is the "
                "pod's own address, and the headers are what the sidecar adds."),
        "J14": ("How the sidecar's traffic is redirected", "In the network namespace of the Envoy: what comes in goes to 15006, what goes out to 15001, and what "
                "Envoy (1337) itself sends is left alone."),
        "J15": ("What the node proxy says about it", "The node proxy beside httpbin has proved who called: the pod, its namespace, and the identity in its "
                "certificate."),
        "J16": ("From sleep to helloworld, through the waypoint", "The service has a waypoint, so the sidecar's endpoints for it are no addresses any more "
                "but lead into a tunnel to the waypoint's 15008, which routes, logs and passes the request on."),
    },
}

KOREAN = {
    "title": "# 여정: 튜토리얼을 입력한 그대로\n",
    "introduction": """\
이 문서는 `make journey`가 생성한다({date}, {build} 빌드, {machine}, {cores}코어). **{all}단계 중 {done}단계가 실제로 확인되었고**, 전체 실행에 {seconds}초가 걸렸다.
직접 수정하지 말고 다시 실행해서 갱신한다. 영어판은 [journey.md](journey.md)에 있다.

튜토리얼은 k3d 클러스터에서 Istio Ambient 모드를 사이드카와 함께 구성한다. 튜토리얼의 명령과 매니페스트는 한 글자도 바꾸지 않고 입력하며,
다음만 치환한다. `istioctl X`는 `martlet X`로, `k3d cluster X`는 `martlet lab X`로, `docker exec -it NODE CMD`는 `martlet lab exec NODE -- CMD`로 바꾸고,
머신마다 달라지는 이름(프로세스 번호, 데몬셋의 파드 이름)은 실제 값으로 바꾼다. 아래 출력은 모두 명령이 실제로 출력한 내용이며, 너무 긴 부분은
생략했음을 표시하고 잘라냈다.

**대역(stand-in)에 대하여.** 랩에는 이미지를 내려받을 레지스트리가 없다. 이미지는 같은 이름으로 등록된 이 머신의 프로그램이다. Argo CD와 Argo Rollouts의
`install.yaml`은 원본과 같은 형태와 크기로 직접 작성한 것이고(`scripts/journey/argo.py`), 컨트롤러와 dex, redis는 원본과 같은 포트를 열고 프로브에
응답하며 HTTPS를 제공하는 하나의 프로그램이 대신한다(`Lab/StandIns/argo.py`). 이런 매니페스트가 받아들여지고, 패치되고, 접속된다는 것을 보일 뿐 실제로
애플리케이션을 배포하지는 않는다. httpbin과 Envoy는 진짜다.
""",
    "columns": "| 단계 | 내용 | | 소요 시간 |",
    "true": "확인됨", "false": "**아직 아님**",
    "failure": "**아직 동작하지 않는다.** 대신 관찰된 내용은 다음과 같다.",
    "checked": "확인한 항목:",
    "steps": {
        "J1": ("노드 다섯 개로 이루어진 클러스터", "서버 하나와 에이전트 네 개를 만든다. 각 노드는 이 머신의 네임스페이스 묶음이다. k3d와 마찬가지로 "
               "kubectl의 현재 컨텍스트가 새 클러스터를 가리키게 된다."),
        "J2": ("메시 설치", "k3s는 CNI 설정과 바이너리를 표준이 아닌 위치에 두므로 튜토리얼이 그 경로를 지정한다. 노드 에이전트는 지정된 위치에만 "
               "플러그인과 체인 항목을 설치한다."),
        "J3": ("설치 검증", "설치된 오브젝트를 하나씩 점검한 다음, 각 노드로 터널을 통해 실제 연결을 한 번씩 맺어 본다. 연결 확인은 istioctl에는 없는 "
               "기능이다."),
        "J4": ("Argo CD 설치, 패스워드 변경, 포트 포워딩", "CRD는 원본만큼 커서 `kubectl apply`가 허용하는 한계에 거의 닿는다. 패치의 `stringData`는 base64로 변환되어 `data`에 "
               "저장되고, 포워딩한 포트로는 파드의 HTTPS가 그대로 전달된다."),
        "J5": ("Argo Rollouts 설치", "CRD 다섯 개와 클러스터 기본 롤에 합쳐지는 롤, 그리고 컨트롤러를 배포한다."),
        "J6": ("0번 노드: 사이드카가 있는 sleep", "네임스페이스 라벨이 인젝션을 요청하므로 컨트롤 플레인의 웹훅이 Envoy 컨테이너와, 파드의 트래픽을 "
               "리디렉션하는 초기화 단계를 추가한다. 노드 에이전트는 이런 파드를 건드리지 않는다."),
        "J7": ("1번 노드: Ambient 모드의 httpbin", "이 파드에는 프록시가 들어가지 않고 재시작도 일어나지 않는다. 노드 프록시가 트래픽을 맡고 있다는 사실은 "
               "어노테이션으로 확인할 수 있다."),
        "J8": ("Gateway API CRD", "CRD는 메시를 설치할 때 함께 설치되므로 튜토리얼의 명령은 이미 있음을 확인하고 아무 일도 하지 않는다. 반대로 CRD가 "
               "먼저 설치되어 있었다면 메시 설치는 그것을 그대로 둔다."),
        "J9": ("Ambient로 등록된 네임스페이스", "아직은 `bar-1` 하나뿐이다."),
        "J10": ("2번 노드: 웨이포인트 Gateway", "`waypoint generate`는 매니페스트를 출력하기만 한다. 이어서 튜토리얼에 나온 Gateway를 그대로 적용한다."),
        "J11": ("웨이포인트 배포", "컨트롤 플레인이 Gateway에 맞춰 Deployment와 Service를 만든다. 네임스페이스 라벨이 붙으면 그 네임스페이스의 서비스로 가는 "
                "트래픽이 웨이포인트를 거치게 된다."),
        "J12": ("3번 노드: helloworld", "애플리케이션 세 개가 서로 다른 세 노드에 있다. 하나는 사이드카를 쓰고, 하나는 Ambient이며, 나머지 하나는 웨이포인트 "
                "뒤에 있는 Ambient다."),
        "J13": ("sleep에서 httpbin으로", "사이드카는 요청을 터널에 실어 상대 노드의 노드 프록시로 보낸다. `origin`은 sleep 파드 자신의 주소이고, 헤더에는 사이드카가 "
                "덧붙인 정보가 보인다."),
        "J14": ("사이드카 트래픽의 리디렉션", "Envoy가 속한 네트워크 네임스페이스에서 iptables를 살펴본다. 들어오는 연결은 15006으로, 나가는 연결은 15001로 "
                "향하고, Envoy 자신(UID 1337)이 보내는 트래픽은 리디렉션되지 않는다."),
        "J15": ("노드 프록시의 로그", "httpbin 옆의 노드 프록시는 누가 호출했는지를 검증된 정보로 남긴다. 파드 이름과 네임스페이스, 그리고 인증서에 담긴 "
                "아이덴티티가 로그에 나타난다."),
        "J16": ("웨이포인트를 거쳐 sleep에서 helloworld로", "서비스에 웨이포인트가 있으므로, 사이드카가 받는 엔드포인트는 더 이상 파드 주소가 아니라 웨이포인트의 15008로 "
                "이어지는 터널이다. 웨이포인트는 요청을 라우팅하고 로그를 남긴 뒤 애플리케이션으로 전달한다."),
    },
}

WORDS = {"en": ENGLISH, "ko": KOREAN}
