"""Tests with broken variants of a rendering that each rule of manifests.py refuses what it exists for.

A variant has the rule that must refuse it, a part of the rule's message, and the change: Python on `it`, a
Rendering. The text that it writes to `routes` becomes the routes.toml.
"""

import copy

import manifests

TAKEOVER = "it.container['args'].append('--takeover'); routes = "

VARIANTS = [
    ("surge", "exactly one", "strategy['maxUnavailable'] = 1"),
    ("surge", "exactly one", "strategy['maxSurge'] = 0"),
    ("surge", "hostPort", "it.ports[0]['hostPort'] = 443"),
    ("surge", "and ports", "it.pod['hostNetwork'] = True"),
    ("surge", "no --takeover", "it.pod['hostNetwork'] = True; del it.container['ports']"),
    ("probes", "startupProbe: host", "get('startupProbe')['host'] = '127.0.0.1'"),
    ("probes", "livenessProbe: not the port", "get('livenessProbe')['port'] = 8443"),
    ("probes", "livenessProbe: not /livez", "get('livenessProbe')['path'] = '/readyz'"),
    ("probes", "readinessProbe: not", "del it.container['readinessProbe']"),
    ("probes", "admin.bind", "routes = routes.replace('[::]:9355', '127.0.0.1:9355')"),
    ("grace", "not more than", "it.pod['terminationGracePeriodSeconds'] = 910"),
    ("grace", "not more than", "routes = routes.replace('\"15m\"', '\"15m 30s\"')"),
    ("grace", "not more than", "it.container['lifecycle'] = {'preStop': {'sleep': {'seconds': 20}}}"),
    ("grace", "no program", "it.container['lifecycle'] = {'preStop': {'exec': {'command': ['sleep']}}}"),
    ("drain", "drain_timeout: less", "routes = routes.replace('\"15m\"', '\"60s\"')"),
    ("drain", "drain_timeout: less", "routes = routes.replace('drain_timeout = \"15m\"', '')"),
    ("drain", "without portway", "strategy.update(maxSurge=0, maxUnavailable='10%')"),
    ("drain", "takeover_timeout: less", TAKEOVER + "routes.replace('[limits]', '[limits]\\ntakeover_timeout = \"60s\"')"),
    ("pod_ports", "ports of the container", "it.ports[0]['containerPort'] = 443"),
    ("pod_ports", "ports of the container", "routes = routes.replace(':8443', ':8444')"),
    ("pod_ports", "no host port", "it.ports[1]['hostPort'] = 9355"),
    ("service_ports", "nothing listens", "service['ports'][0]['targetPort'] = 443"),
    ("service_ports", "nothing listens", "service['ports'][0]['targetPort'] = 'tls'"),
    ("service_ports", "does not select", "service['selector'] = {'app': 'portway'}"),
    ("service_ports", "behind a balancer", "service['ports'][0]['targetPort'] = 9355"),
    ("service_ports", "no Service", "it.documents.remove(it.of('Service')[0])"),
    ("network_policy", "not the ports of routes", "policy['ingress'][0]['ports'][0]['port'] = 443"),
    ("network_policy", "open to all", "del policy['ingress'][1]['from']"),
    ("network_policy", "endpoints", "routes = routes.replace(':8220', ':443')"),
    ("network_policy", "over UDP", "del policy['egress'][0]['ports'][0]"),
    ("network_policy", "no NetworkPolicy", "it.documents.remove(it.of('NetworkPolicy')[0])"),
    ("network_policy", "does not hold", "it.pod['hostNetwork'] = True"),
    ("defaults", "of the container", "del it.ports[0]['protocol']"),
    ("defaults", "Service portway", "del service['ports'][0]['protocol']"),
    ("defaults", "ingress of the", "del policy['ingress'][1]['ports'][0]['protocol']"),
    ("defaults", "egress of the", "policy['egress'][1]['ports'].append({'port': 5044})"),
    ("defaults", "relabelings", "del monitor['podMetricsEndpoints'][0]['relabelings'][1]['action']"),
    ("pod_monitor", "does not select", "monitor['selector']['matchLabels'] = {'app': 'portway'}"),
    ("pod_monitor", "another namespace", "it.of('PodMonitor')[0]['metadata']['namespace'] = 'monitoring'"),
    ("pod_monitor", "named metrics", "monitor['podMetricsEndpoints'][0]['port'] = 'metrics'"),
    ("pod_monitor", "named agents", "monitor['podMetricsEndpoints'][0]['port'] = 'agents'"),
    ("pod_monitor", "named admin", "it.ports[1]['name'] = 'metrics'"),
    ("privileged_ports", "port 443", "routes = routes.replace(':8443', ':443')"),
    ("privileged_ports", "refuses sysctls", "it.pod['hostNetwork'] = True; context['sysctls'] = [sysctl]"),
    ("image", "the image is", "it.container['image'] = 'registry.example.com/portway:latest'"),
    ("image", "the image is", "it.container['image'] = 'registry.example.com/portway'"),
    ("resources", "CPU limit", "it.container['resources']['limits']['cpu'] = '1'"),
    ("resources", "no memory limit", "del it.container['resources']['limits']"),
    ("resources", "no requests", "del it.container['resources']['requests']"),
    ("resources", "max_connections", "routes = routes.replace('[limits]', '[limits]\\nmax_connections = 50_000')"),
    ("resources", "connections only", "it.container['resources']['limits']['memory'] = '16Mi'"),
    ("token", "of its own", "it.of('ServiceAccount')[0]['automountServiceAccountToken'] = True"),
    ("token", "of its own", "del it.pod['serviceAccountName']"),
    ("token", "has a token", "del it.pod['automountServiceAccountToken']"),
    ("pod_security", "not privileged", "it.pod['hostNetwork'] = True"),
    ("pod_security", "not privileged", "it.ports[0]['hostPort'] = 443"),
    ("pod_security", "enforce is not", "labels['pod-security.kubernetes.io/enforce'] = 'privileged'"),
    ("pod_security", "more rights", "context['runAsNonRoot'] = False"),
    ("pod_security", "more rights", "secure['capabilities']['add'] = ['NET_BIND_SERVICE']"),
    ("pod_security", "more rights", "del context['seccompProfile']"),
    ("pod_security", "more rights", "del secure['allowPrivilegeEscalation']"),
    ("pod_security", "read-only", "del secure['readOnlyRootFilesystem']"),
    ("pod_security", "another one", "it.daemonset['metadata']['namespace'] = 'default'"),
    ("routes_mount", "subPath", "it.container['volumeMounts'][0]['subPath'] = 'routes.toml'"),
    ("routes_mount", "nothing watches", "it.container['args'].remove('--watch')"),
    ("routes_mount", "not the file", "it.container['volumeMounts'][0]['mountPath'] = '/etc'"),
    ("routes_mount", "always the same", "it.pod['volumes'][0]['configMap']['name'] += '-5k8'"),
    ("environment", "PORTWAY_CONFIG", "del it.container['env']"),
    ("environment", "PORTWAY_CONFIG", "it.container['args'][2] = '/etc/portway/other.toml'"),
    ("rollout", "PodDisruptionBudget", "it.documents.append({'kind': 'PodDisruptionBudget'})"),
    ("rollout", "dnsPolicy", "it.pod['hostNetwork'] = True"),
    ("rollout", "network of its own", "it.container['args'].append('--takeover')"),
    ("rollout", "other images", "it.pod['hostNetwork'] = True; it.container['args'].append('--takeover')"),
    ("rollout", "does not select", "it.template['metadata']['labels'] = {}"),
]


def broken(base, change):
    """A rendering that the change has broken."""
    it = manifests.Rendering(copy.deepcopy(base.documents), base.version)
    names = {
        "it": it,
        "routes": it.routes_text,
        "strategy": it.daemonset["spec"]["updateStrategy"]["rollingUpdate"],
        "get": lambda probe: it.container[probe]["httpGet"],
        "service": it.of("Service")[0]["spec"],
        "policy": it.of("NetworkPolicy")[0]["spec"],
        "monitor": it.of("PodMonitor")[0]["spec"],
        "labels": it.of("Namespace")[0]["metadata"]["labels"],
        "context": it.pod["securityContext"],
        "secure": it.container["securityContext"],
        "sysctl": {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"},
    }
    exec(change, names)
    if names["routes"] != it.routes_text:
        [map_] = [one for one in it.of("ConfigMap") if "routes.toml" in one["data"]]
        map_["data"]["routes.toml"] = names["routes"]
        it = manifests.Rendering(it.documents, it.version)
    return it


def missed(base):
    """The variants that the rules let pass, and the rules without a variant."""
    for rule, says, change in VARIANTS:
        found = manifests.faults(broken(base, change))
        if not any(it.startswith(f"{rule}: ") and says in it for it in found):
            yield f"{rule} lets pass: {change}; found {found}"
    for rule in manifests.RULES:
        if rule.__name__ not in [variant[0] for variant in VARIANTS]:
            yield f"{rule.__name__} has no variant"
