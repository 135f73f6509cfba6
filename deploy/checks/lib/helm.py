"""The part of the check `helm` that runs one version of Helm: helm.py HELM. See there for what it finds in WORK.

It collects all faults before it fails.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import yaml

import kubernetes
import manifests

HELM = sys.argv[1]
WORK = pathlib.Path(os.environ["WORK"])
CHART = pathlib.Path("deploy/helm/portway")
BASE = pathlib.Path("deploy/kubernetes/base")
OVERLAYS = pathlib.Path("deploy/kubernetes/overlays")
PAGE = pathlib.Path("docs/kubernetes.md").read_text()
VERSION = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["package"]["version"]
# What Helm's conventions want beside the label of the base.
CONVENTIONAL = {
    "helm.sh/chart",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
}
# The values that give a directory of deploy/kubernetes, with the components that its rendering has.
WAYS = {
    "base": ["routes=deploy/kubernetes/base/routes.toml"],
    "hostport": ["routes=deploy/kubernetes/overlays/hostport/routes.toml", "mode=hostPort"],
    "hostnetwork": ["routes=deploy/kubernetes/base/routes.toml", "mode=hostNetwork"],
}
# Every value that the ways leave at its default.
OTHERS = """
ports:
  - {name: fleet, port: 8220, targetPort: 8443, nodePort: 30220}
  - {name: es, port: 9200, targetPort: 8443}
image: {repository: r.example.com/portway, digest: "sha256:%s", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
logFormat: json
extraArgs: [--verbose]
extraVolumes: [{name: login, secret: {secretName: login}}]
extraVolumeMounts: [{name: login, mountPath: /etc/login, readOnly: true}]
service:
  type: LoadBalancer
  annotations: {example.com/balancer: internal}
  internalTrafficPolicy: Cluster
  externalTrafficPolicy: Cluster
  ipFamilyPolicy: SingleStack
  loadBalancerClass: example.com/own
  loadBalancerSourceRanges: [192.0.2.0/24]
networkPolicy:
  metricsFrom: []
  extraEgress: [{ports: [{port: 5353, protocol: UDP}]}]
rollout: {maxSurge: 20%%, minReadySeconds: 9}
terminationGracePeriodSeconds: 4230
resources: {limits: {memory: 1Gi}}
nodeSelector: {pool: edge}
tolerations: [{key: edge, operator: Exists}]
affinity: {podAntiAffinity: {}}
priorityClassName: system-node-critical
podAnnotations: {example.com/note: "1"}
podLabels: {team: net}
serviceAccount: {name: relay, annotations: {example.com/role: none}}
monitoring:
  podMonitor: {enabled: true, labels: {release: prom}, interval: 30s}
  serviceMonitor: {enabled: true, labels: {release: prom}, interval: 30s}
  prometheusRule: {enabled: true, labels: {release: prom}, runbookUrl: "https://example.com/runbook"}
  dashboard: {enabled: true, labels: {board: "yes"}}
fullnameOverride: relay
""" % ("0" * 64)
# What the chart takes from a routes.toml: endpoints, ports of the DNS servers and seconds of a drain.
TAKEN = [
    ('endpoints = ["a:1", {address = "[fd00::7]:2", weight = 3}]', "", ["1", "2"], ["53"], 20),
    ('endpoints = ["a:1"]\nvia = "http://proxy:3128"', 'drain_timeout = "1h 30m"', ["3128"], ["53"], 5400),
    ('endpoints = ["{server_name}:{port}"]', 'drain_delay = "500ms"', ["7", "8"], ["53"], 20),
    (
        'endpoints = ["a:443"]\nresolver = {servers = ["10.0.0.53", "fd00::53", "[fd00::53]:5353", "10.0.0.53:54"]}',
        'drain_delay = "5s"\ndrain_timeout = "2m"',
        ["443"],
        ["53", "5353", "54"],
        125,
    ),
]

faults = []


def expect(holds, fault):
    if not holds:
        faults.append(fault)


def helm(*arguments):
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def render(values, release="portway", namespace="portway", chart=CHART):
    """The objects of `helm template`. A value `routes=FILE` is the text of a file; a path is a file of values."""
    arguments = ["template", release, str(chart), "--namespace", namespace]
    for value in values:
        if isinstance(value, pathlib.Path):
            arguments += ["--values", str(value)]
        else:
            arguments += ["--set-file" if value.startswith("routes=") else "--set", value]
    status, out, said = helm(*arguments)
    assert status == 0, f"{values}: {said}"
    return [it for it in yaml.safe_load_all(out) if it]


def values_file(name, content):
    file = WORK / f"{name}.yaml"
    file.write_text(content)
    return file


def rendered(name):
    return [it for it in yaml.safe_load_all((WORK / f"rendered/{name}.yaml").read_text()) if it]


def namespace(way):
    """The namespace as the page makes it: that of the base, with the labels of the command for the other two."""
    if way == "base":
        return yaml.safe_load((BASE / "namespace.yaml").read_text())
    command = r"^ *kubectl label --overwrite namespace portway ((?:.*\\\n)*.*)$"
    [labels] = re.findall(command, PAGE, re.M)
    command = ["kubectl", "label", "--local", "-o", "yaml", "-f", str(BASE / "namespace.yaml"), "--overwrite"]
    command += labels.replace("\\", "").split()
    return yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def plain(it):
    """An object without the labels that Helm's conventions want, wherever they are."""
    if isinstance(it, dict):
        return {key: plain(value) for key, value in it.items() if key not in CONVENTIONAL}
    return [plain(one) for one in it] if isinstance(it, list) else it


def keyed(documents):
    return {(it["kind"], it["metadata"]["name"]): it for it in documents}


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            yield from differences(one.get(key), other.get(key), f"{path}/{key}")
    elif one != other:
        yield f"{path}: the chart has {one!r}, kubectl {other!r}"


def compare(name, ours, theirs):
    ours, theirs = keyed(map(plain, ours)), keyed(map(plain, theirs))
    for side in [ours, theirs]:
        for it in [it for (kind, _), it in side.items() if kind == "Namespace"]:
            # kubectl labels it for nobody, and adds fields without a value.
            it["metadata"]["labels"].pop("app.kubernetes.io/name", None)
            it["metadata"].pop("creationTimestamp", None)
            it.pop("spec", None)
            it.pop("status", None)
    for difference in differences(ours, theirs):
        faults.append(f"{name}: {difference}")


def check_objects(name, documents, pods=True):
    faults.extend(f"{name}: {fault}" for fault in kubernetes.schema_faults(documents))
    if pods:
        it = manifests.Rendering(documents, VERSION)
        faults.extend(f"{name}: {fault}" for fault in manifests.faults(it))
        faults.extend(f"{name}: {fault}" for fault in kubernetes.check_routes(it.routes_text))


def check_ways():
    for way, values in WAYS.items():
        values = [*values, "monitoring.prometheusRule.enabled=true", "monitoring.dashboard.enabled=true"]
        if way != "hostnetwork":
            values.append("monitoring.podMonitor.enabled=true")
        documents = [namespace(way), *render(values)]
        compare(way, documents, rendered(way))
        check_objects(way, documents)
        # The monitors, the rules and the dashboard are all that the last values add.
        added = {("PodMonitor", "portway"), ("PrometheusRule", "portway"), ("ConfigMap", "portway-dashboard")}
        others = [it for key, it in keyed(render(values)).items() if key not in added]
        compare(f"{way}, no monitoring", render(WAYS[way]), others)
        print(f"{way}: {len(documents)} objects")
    # A difference must be found, else nothing is proven.
    before = len(faults)
    compare("base", render([*WAYS["base"], "networkPolicy.enabled=false"]), rendered("base"))
    found = len(faults) - before
    del faults[before:]
    expect(found > 2, "a policy and a namespace that are missing are not found")


def check_page():
    """The commands of the page, with `helm template` in place of `helm upgrade`."""
    documents = []
    (WORK / "portway").mkdir(exist_ok=True)
    for file in (WORK / "kubernetes/own").iterdir():
        (WORK / "portway" / file.name).write_bytes(file.read_bytes())
    for file in sorted((WORK / "steps").iterdir()):
        command = shlex.split(re.sub("(?<=[ =])portway/", f"{WORK}/portway/", file.read_text()))
        if command[:2] == ["kubectl", "apply"]:
            expect(command[2:] == ["-f", str(BASE / "namespace.yaml")], f"not the namespace: {command}")
            documents.append(namespace("base"))
        elif command[:3] == ["helm", "upgrade", "--install"]:
            status, out, said = helm("template", *command[3:])
            expect(status == 0, f"{command}: {said}")
            documents += [it for it in yaml.safe_load_all(out) if it]
        elif command[:2] == ["portway", "check"]:
            subprocess.run([os.environ["PORTWAY"], *command[1:]], check=True)
        else:
            expect(command[0] == "kubectl" and "rollout" in command, f"a command that nobody checks: {command}")
    compare("the page", documents, rendered("documented"))


def check_other_values():
    others = values_file("others", OTHERS)
    set_ = yaml.safe_load(OTHERS)
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    # `mode` and `routes` have their own; the first share of a rollout is not for every mode.
    for name in defaults.keys() - set_.keys() - {"mode", "routes"}:
        faults.append(f"{name} has only its default here")
    documents = render([*WAYS["base"], others], release="edge", namespace="net")
    check_objects("others", documents, pods=False)
    text = yaml.safe_dump_all(documents)
    for word in [
        "r.example.com/portway@sha256:", "IfNotPresent", "--verbose", "--log-format", "secretName: login", "nodePort: 30220",
        "type: LoadBalancer", "example.com/own", "192.0.2.0/24", "port: 5353", "maxSurge: 20%", "minReadySeconds: 9",
        "terminationGracePeriodSeconds: 4230", "memory: 1Gi", "pool: edge", "system-node-critical", "example.com/note", "team: net",
        "name: relay\n", "example.com/role", "release: prom", "interval: 30s", "https://example.com/runbook#portwaydown",
        "board: 'yes'",
        "name: relay-routes", "name: relay-metrics", "namespace: net", "imagePullSecrets",
    ]:
        expect((word in text) == (word != "IfNotPresent"), f"others: {word}")
    expect("docs/runbook.md" not in text and "namespace: portway" not in text, "others: a trace of the defaults")
    dashboard = json.loads(keyed(documents)["ConfigMap", "relay-dashboard"]["data"]["portway.json"])
    variables = {it["name"]: it.get("query") for it in dashboard["templating"]["list"]}
    expect(variables["runbook"] == "https://example.com/runbook", f"others: the runbook of the dashboard is {variables['runbook']}")
    # Two releases in one namespace do not select each other's pods.
    pods = [keyed(render(WAYS["base"], release=one)) for one in ["portway", "edge"]]
    expect(("DaemonSet", "edge-portway") in pods[1], "the name of a release is not in its names")
    selector = pods[0]["DaemonSet", "portway"]["spec"]["selector"]["matchLabels"]
    labels = pods[1]["DaemonSet", "edge-portway"]["spec"]["template"]["metadata"]["labels"]
    expect(not selector.items() <= labels.items(), "two releases select each other's pods")


def check_taken():
    for backend, limits, egress, dns, drain in TAKEN:
        routes = f"""[admin]\nbind = "[::]:19355"\n[limits]\n{limits}\n[listeners.agents]\nbind = ["[::]:8443"]
[backends.b]\n{backend}\n[routes.r]\nserver_names = ["n.example.com"]\nports = [7, 8]\nbackend = "b"\n"""
        documents = keyed(render([values_file("taken", json.dumps({"routes": routes}))]))
        rules = documents["NetworkPolicy", "portway"]["spec"]["egress"]
        ports = [[str(port["port"]) for port in rule["ports"]] for rule in rules]
        expect(ports == [[port for port in dns for _ in "UT"], egress], f"{backend}: {ports}")
        pod = documents["DaemonSet", "portway"]["spec"]["template"]["spec"]
        grace = pod["terminationGracePeriodSeconds"]
        expect(grace == drain + 20, f"{limits}: {grace}")
        text = json.dumps(pod)
        expect(text.count("19355") == 4 and "9355" not in text.replace("19355", ""), f"the admin port: {text}")
    # The order of ports never changes, or pods would be replaced.
    numbers = [8006, 8001, 8005, 8002, 8004, 8003]
    binds = ", ".join(f'"[::]:{number}"' for number in sorted(numbers))
    values = {
        "routes": f'[admin]\nbind = "[::]:9355"\n[listeners.agents]\nbind = [{binds}]\n',
        "ports": [{"name": f"a{n}", "port": n, "targetPort": n} for n in numbers],
    }
    values["ports"].append({"name": "again", "port": 9000, "targetPort": 8006})
    documents = keyed(render([values_file("ports", json.dumps(values))]))
    [container] = documents["DaemonSet", "portway"]["spec"]["template"]["spec"]["containers"]
    declared = [port["containerPort"] for port in container["ports"]]
    expect(declared == [*numbers, 9355], f"the ports of the pods: {declared}")
    # A change of a route alone leaves the pods as they are.
    one, other = [
        keyed(render([values_file("route", json.dumps({"routes": (BASE / "routes.toml").read_text() + more}))]))
        for more in ["", '[routes.late]\nserver_names = ["late.example.com"]\nbackend = "fleet"\n']
    ]
    changed = [key for key in one if one[key] != other[key]]
    expect(changed == [("ConfigMap", "portway-routes")], f"a route changes {changed}")


def check_wrong_values():
    right = values_file("right", json.dumps({"routes": (BASE / "routes.toml").read_text()}))
    files = sorted(pathlib.Path("deploy/checks/lib/wrong-values").iterdir())
    schema = 0
    for file in files:
        subject, _, words = file.read_text().splitlines()[0].removeprefix("# ").partition(": ")
        status, _, said = helm("template", "portway", str(CHART), "--values", str(right), "--values", str(file))
        schema += "the schema(s)" in said
        # Helm 4 writes /image/tag, Helm 3 image.tag.
        named = subject in said or "/" + subject.replace(".", "/") in said
        expect(status != 0 and named, f"{file.stem}: {said}")
        for word in words.split(", "):
            expect(word in said, f"{file.stem}: no {word!r} in {said}")
    expect(schema >= 10, f"the schema refuses only {schema}")
    print(f"{len(files)} wrong values, {schema} of them refused by the schema")


def check_notes():
    """Only Helm 4 shows the notes without a cluster."""
    for way, values in [*WAYS.items(), ("long drain", [*WAYS["base"], "mode=hostPort"])]:
        values = [word for value in values for word in (["--set-file", value] if "toml" in value else ["--set", value])]
        status, out, said = helm("install", "portway", str(CHART), "-n", "portway", "--dry-run=client", *values)
        expect(status == 0, f"notes: {said}")
        notes = out.partition("NOTES:")[2]
        level = "restricted" if way == "base" else "privileged"
        expect(f"enforce={level}\n" in notes, f"notes of {way}: no level {level}")
        expect(("WARNING" in notes) == (way == "long drain"), f"notes of {way}: {notes}")
        port = {"hostport": "port 443 of each node", "hostnetwork": "port 8443 of each node"}.get(way, "portway.portway:443")
        expect(port in notes, f"notes of {way}: no {port}")


def check_formats():
    """The schema has the log formats of `portway run`."""
    said = subprocess.run([os.environ["PORTWAY"], "run", "--help"], capture_output=True, text=True).stdout
    [formats] = re.findall(r"--log-format .*?\[possible values: (.*?)\]", said, re.S)
    schema = json.loads((CHART / "values.schema.json").read_text())
    expect(schema["properties"]["logFormat"]["enum"] == ["", *formats.split(", ")], f"logFormat: {formats}")


def check_chart():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    expect(chart["version"] == chart["appVersion"] == VERSION, f"the version is not {VERSION}: {chart}")
    for more in [[], ["--set-file", WAYS["base"][0]]]:
        status, out, said = helm("lint", "--strict", *more, str(CHART))
        expect(status == 0, f"helm lint: {out}{said}")
    # A package has the rules and the dashboard too, although they are links here.
    status, _, said = helm("package", str(CHART), "--destination", str(WORK))
    expect(status == 0, f"helm package: {said}")
    values = [*WAYS["base"], "monitoring.prometheusRule.enabled=true", "monitoring.dashboard.enabled=true"]
    packaged = render(values, chart=WORK / f"portway-{VERSION}.tgz")
    expect(packaged == render(values), "the package renders other objects")


def main():
    check_chart()
    check_formats()
    check_ways()
    check_page()
    check_other_values()
    check_taken()
    check_wrong_values()
    if HELM.endswith("helm4"):
        check_notes()
    print("\n".join(faults))
    sys.exit(bool(faults))


main()
