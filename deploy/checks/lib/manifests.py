"""What the schemas of Kubernetes miss: rules over rendered manifests and the routes.toml in them.

Each function of RULES takes a Rendering and yields what is wrong with it.
"""

import re
import tomllib

import yaml

# Most bytes of a connection, by the default of limits.max_connections: half of the memory is for connections.
CONNECTION = 10 * 1024
# A pod with fewer connections than this is too small for a node.
FEWEST_CONNECTIONS = 1000
DEFAULTS = {"drain_delay": "0s", "drain_timeout": "20s", "takeover_timeout": "15m"}
# Fewest seconds of a drain beside a new pod. Fleet Server holds a check-in for 5 minutes, and downloads take longer.
MOVED = 900
# Most seconds of a drain while the node has no other pod.
ALONE = 60
PSA = "pod-security.kubernetes.io/"
SYSTEM_PORTS = 1024
# The user of many images: `nonroot`.
SHARED_USER = 65532


class Rendering:
    """The documents of a `kubectl kustomize`, and the parts that the rules examine."""

    def __init__(self, documents, version):
        self.documents = documents
        self.version = version
        [self.daemonset] = self.of("DaemonSet")
        self.template = self.daemonset["spec"]["template"]
        self.pod = self.template["spec"]
        [self.container] = self.pod["containers"]
        [self.routes_text] = [
            document["data"]["routes.toml"]
            for document in self.of("ConfigMap")
            if "routes.toml" in document["data"]
        ]
        self.routes = tomllib.loads(self.routes_text)

    @classmethod
    def read(cls, path, version):
        with open(path) as file:
            return cls([it for it in yaml.safe_load_all(file) if it], version)

    def of(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    @property
    def host_network(self):
        return self.pod.get("hostNetwork", False)

    @property
    def ports(self):
        return self.container.get("ports", [])

    @property
    def listening(self):
        binds = [it for one in self.routes["listeners"].values() for it in one["bind"]]
        return {port_of(bind) for bind in binds}

    @property
    def admin(self):
        return port_of(self.routes["admin"]["bind"])

    @property
    def takes_over(self):
        return "--takeover" in self.container["args"]

    @property
    def rolling(self):
        """maxSurge and maxUnavailable, as numbers or per cent."""
        strategy = self.daemonset["spec"]["updateStrategy"]["rollingUpdate"]
        defaults = [("maxSurge", 0), ("maxUnavailable", 1)]
        return [int(str(strategy.get(key, default)).rstrip("%")) for key, default in defaults]

    def limit(self, key):
        return seconds(self.routes.get("limits", {}).get(key, DEFAULTS[key]))

    def number(self, port):
        """The number of a port, which may be given by name."""
        named = {it["name"]: it["containerPort"] for it in self.ports}
        return named.get(port) if isinstance(port, str) else port

    def selected(self, selector):
        labels = self.template["metadata"]["labels"]
        return bool(selector) and selector.items() <= labels.items()


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def seconds(text):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"(\d+)\s*(ms|s|m|h)", text))


def number_of_bytes(text):
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(text[:-2]) * units[text[-2:]]


def surge(it):
    more, less = it.rolling
    if bool(more) == bool(less):
        yield "maxSurge and maxUnavailable: the API server wants exactly one that is not 0"
    if more and any("hostPort" in port for port in it.ports):
        yield "maxSurge with a hostPort: the second pod of a node is never scheduled"
    if more and it.host_network:
        if it.ports:
            yield "maxSurge with hostNetwork and ports: the second pod of a node is never scheduled"
        if not it.takes_over:
            yield "maxSurge with hostNetwork, and no --takeover: the second pod cannot bind"


def probes(it):
    for name, path in [
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ]:
        get = it.container.get(name, {}).get("httpGet", {})
        if get.get("path") != path:
            yield f"{name}: not {path}"
        if "host" in get:
            yield f"{name}: host is refused by the baseline Pod Security Standard"
        if it.number(get.get("port")) != it.admin:
            yield f"{name}: not the port of admin.bind"
    if it.routes["admin"]["bind"].startswith(("127.", "[::1]", "localhost")):
        yield "admin.bind: probes and Prometheus come from outside the pod"


def grace(it):
    hook = it.container.get("lifecycle", {}).get("preStop", {})
    before = hook.get("sleep", {}).get("seconds", 0)
    drain = it.limit("drain_delay") + it.limit("drain_timeout")
    if it.pod["terminationGracePeriodSeconds"] <= before + drain:
        yield f"terminationGracePeriodSeconds: not more than preStop and drain, {before + drain:g} s"
    if set(hook) - {"sleep"}:
        yield "preStop: the image has no program for it"


def drain(it):
    """Beside a second pod a drain has time for the check-ins that agents have open. Without one it is short."""
    more, _ = it.rolling
    if not more and it.limit("drain_timeout") > ALONE:
        yield f"drain_timeout: more than {ALONE} s, and the node is without portway meanwhile"
    for key in ["drain_timeout"] * bool(more) + ["takeover_timeout"] * it.takes_over:
        if it.limit(key) < MOVED:
            yield f"{key}: less than {MOVED} s, which resets check-ins that are held"


def pod_ports(it):
    wanted = it.listening | {it.admin}
    declared = {port["containerPort"] for port in it.ports}
    if declared != wanted and not (it.host_network and not declared):
        yield f"ports of the container are {declared}, of routes.toml {wanted}"
    for port in it.ports:
        if port.get("hostPort") == it.admin or (
            port["containerPort"] == it.admin and "hostPort" in port
        ):
            yield "the admin port is no host port"


def service_ports(it):
    reached = set()
    for service in it.of("Service"):
        name = service["metadata"]["name"]
        if not it.selected(service["spec"].get("selector", {})):
            yield f"Service {name} does not select the pods"
        for port in service["spec"]["ports"]:
            target = it.number(port.get("targetPort", port["port"]))
            reached.add(target)
            if target not in it.listening | {it.admin}:
                yield f"Service {name}: nothing listens on {port.get('targetPort')}"
            if target == it.admin and service["spec"].get("clusterIP") != "None":
                yield f"Service {name}: the admin port behind a balancer"
    if not it.listening <= reached:
        yield "a listener has no Service"


def network_policy(it):
    policies = it.of("NetworkPolicy")
    if it.host_network:
        if policies:
            yield "a NetworkPolicy does not hold for pods on the host's network"
        return
    if not [one for one in policies if it.selected(one["spec"]["podSelector"]["matchLabels"])]:
        yield "no NetworkPolicy selects the pods"
        return
    rules = {way: [] for way in ["ingress", "egress"]}
    for policy in policies:
        for way, found in rules.items():
            found.extend(policy["spec"].get(way, []))
    def opened(way, protocol="TCP"):
        ports = [port for rule in rules[way] for port in rule["ports"]]
        return {port["port"] for port in ports if port.get("protocol", "TCP") == protocol}
    if opened("ingress") != it.listening | {it.admin}:
        yield "ingress of the NetworkPolicy: not the ports of routes.toml"
    for rule in rules["ingress"]:
        if it.admin in [port["port"] for port in rule["ports"]] and not rule.get("from"):
            yield "ingress of the NetworkPolicy: the admin port is open to all"
    endpoints = [one for backend in it.routes["backends"].values() for one in backend["endpoints"]]
    if opened("egress") != {port_of(endpoint) for endpoint in endpoints} | {53}:
        yield "egress of the NetworkPolicy: not the ports of the endpoints, and DNS"
    if opened("egress", "UDP") != {53}:
        yield "egress of the NetworkPolicy: DNS over UDP"


def defaults(it):
    """What the API server would add to a list that it takes as a whole: kubectl then finds a difference at each
    apply, and a server-side apply a conflict."""
    ports = [("the container", port) for port in it.ports]
    for service in it.of("Service"):
        name = f"Service {service['metadata']['name']}"
        ports += [(name, port) for port in service["spec"]["ports"]]
    for policy in it.of("NetworkPolicy"):
        for way in ["ingress", "egress"]:
            rules = policy["spec"].get(way, [])
            ports += [(f"{way} of the NetworkPolicy", port) for rule in rules for port in rule["ports"]]
    for where, port in ports:
        if "protocol" not in port:
            yield f"a port of {where} has no protocol: {port}"
    for monitor in it.of("PodMonitor") + it.of("ServiceMonitor"):
        spec = monitor["spec"]
        for endpoint in spec.get("podMetricsEndpoints", []) + spec.get("endpoints", []):
            for key in ["relabelings", "metricRelabelings"]:
                for relabeling in endpoint.get(key, []):
                    if "action" not in relabeling:
                        yield f"one of the {key} of {monitor['kind']} has no action"


def pod_monitor(it):
    """If pods declare no ports, a PodMonitor cannot name one."""
    for monitor in it.of("PodMonitor"):
        if not it.selected(monitor["spec"]["selector"].get("matchLabels")):
            yield "it does not select the pods"
        if monitor["metadata"]["namespace"] != it.daemonset["metadata"]["namespace"]:
            yield "it is in another namespace than the pods"
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if it.ports and it.number(endpoint.get("port")) != it.admin:
                yield f"no admin port of the pods is named {endpoint.get('port')}"


def privileged_ports(it):
    """A capability does not help an ordinary user here: Kubernetes does not make it ambient."""
    sysctls = {one["name"]: one["value"] for one in it.pod["securityContext"].get("sysctls", [])}
    first = int(sysctls.get("net.ipv4.ip_unprivileged_port_start", SYSTEM_PORTS))
    for port in sorted(it.listening | {it.admin}):
        if port < first and it.pod["securityContext"]["runAsUser"] != 0:
            yield f"an ordinary user cannot bind port {port}"
    if it.host_network and sysctls:
        yield "the kubelet refuses sysctls of the network with hostNetwork"


def image(it):
    name = it.container["image"]
    if not name.endswith(f":{it.version}") and "@sha256:" not in name:
        yield f"the image is {name}, the version {it.version}"


def resources(it):
    limits = it.container.get("resources", {}).get("limits", {})
    requests = it.container.get("resources", {}).get("requests", {})
    if "cpu" in limits:
        yield "a CPU limit holds up every connection of the node"
    if "cpu" not in requests or "memory" not in requests:
        yield "no requests"
    if "memory" not in limits:
        yield "no memory limit"
        return
    room = number_of_bytes(limits["memory"]) // 2 // CONNECTION
    if it.routes.get("limits", {}).get("max_connections", room) > room:
        yield f"max_connections: the memory limit allows {room}"
    if room < FEWEST_CONNECTIONS:
        yield f"the memory limit allows {room} connections only"


def token(it):
    accounts = {one["metadata"]["name"]: one for one in it.of("ServiceAccount")}
    account = accounts.get(it.pod.get("serviceAccountName"), {})
    if account.get("automountServiceAccountToken") is not False:
        yield "no ServiceAccount of its own without a token"
    if it.pod.get("automountServiceAccountToken") is not False:
        yield "the pod has a token"


def pod_security(it):
    """The level of the namespace is exactly what the pod needs."""
    [namespace] = it.of("Namespace")
    contexts = [it.pod.get("securityContext", {}), it.container.get("securityContext", {})]
    merged = contexts[0] | contexts[1]
    capabilities = merged.get("capabilities", {})
    privileged = (
        it.host_network
        or any("hostPort" in port for port in it.ports)
        or any("hostPath" in volume for volume in it.pod.get("volumes", []))
        or merged.get("privileged", False)
    )
    restricted = (
        merged.get("runAsNonRoot") is True
        and merged.get("runAsUser") != 0
        and merged.get("allowPrivilegeEscalation") is False
        and capabilities == {"drop": ["ALL"]}
        and merged.get("seccompProfile", {}).get("type") == "RuntimeDefault"
    )
    if not restricted:
        yield "the pod has more rights than the restricted standard gives"
    level = "privileged" if privileged else "restricted"
    for mode in ["enforce", "audit", "warn"]:
        if namespace["metadata"]["labels"].get(PSA + mode) != level:
            yield f"the namespace's {mode} is not {level}"
    if namespace["metadata"]["name"] != it.daemonset["metadata"]["namespace"]:
        yield "the namespace is another one"
    if merged.get("readOnlyRootFilesystem") is not True:
        yield "the root file system is not read-only"


def routes_mount(it):
    """Without --watch, with a subPath or with a hash in the name, a change of a route needs a rollout."""
    args = it.container["args"]
    directory, _, file = args[args.index("--config") + 1].rpartition("/")
    mounts = [one for one in it.container["volumeMounts"] if one["mountPath"] == directory]
    if not mounts or file != "routes.toml":
        yield "--config is not the file of the ConfigMap"
        return
    if "subPath" in mounts[0]:
        yield "a subPath never sees a change"
    if "--watch" not in args:
        yield "nothing watches routes.toml"
    volumes = {one["name"]: one for one in it.pod["volumes"]}
    name = volumes[mounts[0]["name"]].get("configMap", {}).get("name")
    if name != "portway-routes" or name not in [
        one["metadata"]["name"] for one in it.of("ConfigMap")
    ]:
        yield "the ConfigMap's name is not always the same"


def environment(it):
    """`kubectl exec` of a command without --config finds the file that the pod runs with."""
    args = it.container["args"]
    file = args[args.index("--config") + 1]
    variables = {one["name"]: one.get("value") for one in it.container.get("env", [])}
    if variables.get("PORTWAY_CONFIG") != file:
        yield f"PORTWAY_CONFIG is not {file}"


def rollout(it):
    if it.of("PodDisruptionBudget"):
        yield "a rollout of a DaemonSet asks no PodDisruptionBudget"
    if it.host_network and it.pod.get("dnsPolicy") != "ClusterFirstWithHostNet":
        yield "dnsPolicy: names of the cluster do not resolve on the host's network"
    if not it.host_network and it.takes_over:
        yield "--takeover: each pod has a network of its own"
    if it.host_network and it.takes_over:
        context = it.pod["securityContext"]
        if SHARED_USER in (context["runAsUser"], context["runAsGroup"]):
            yield f"--takeover: other images have the user {SHARED_USER} too"
    if not it.selected(it.daemonset["spec"]["selector"]["matchLabels"]):
        yield "the DaemonSet does not select its pods"


RULES = [
    surge,
    probes,
    grace,
    drain,
    pod_ports,
    service_ports,
    network_policy,
    defaults,
    pod_monitor,
    privileged_ports,
    image,
    resources,
    token,
    pod_security,
    routes_mount,
    environment,
    rollout,
]


def faults(it):
    return [f"{rule.__name__}: {fault}" for rule in RULES for fault in rule(it)]
