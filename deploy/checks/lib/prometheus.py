"""The part of the check `prometheus` that needs more than promtool: see there.

It collects all faults before it fails.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from load import Load
from troubles import Troubles

WORK = Path(os.environ["WORK"])
RULES = Path("deploy/prometheus/rules.yaml")
TESTS = Path("deploy/prometheus/rules.test.yaml")
SCRAPE = Path("deploy/prometheus/scrape.yaml")
OPERATOR = Path("deploy/kubernetes/components/prometheusrule/prometheusrule.yaml")
POD_MONITOR = Path("deploy/kubernetes/components/podmonitor/podmonitor.yaml")
RUNBOOK = Path("docs/runbook.md")
PANELS = Path("deploy/grafana/dashboard.yaml")
DASHBOARD = Path("deploy/grafana/portway.json")
# The variables of the dashboard as Grafana fills them in while nothing is chosen.
VARIABLES = {"$__rate_interval": "15s", "$__range": "5m", "$job": "portway", "$instance": ".+", "$backend": ".*"}

groups = yaml.safe_load(RULES.read_text())["groups"]
rules = [rule for group in groups for rule in group["rules"]]
alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
records = {rule["record"]: rule for rule in rules if "record" in rule}
runbook = RUNBOOK.read_text()

faults = []


def expect(holds, fault):
    if not holds:
        faults.append(fault)


def runbook_queries():
    """Every query of the runbook, from its blocks and its table."""
    blocks = re.findall(r"```promql\n(.*?)```", runbook, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    rows = re.findall(r"^\| .* \| `(.+)` \|$", runbook, re.M)
    assert len(lines) > 15 and len(rows) > 10, "the queries of the runbook are not found"
    return lines + [row.replace(r"\|", "|") for row in rows]


# === without a server


def check_rule_file():
    for name, rule in alerts.items():
        labels, annotations = rule.get("labels", {}), rule.get("annotations", {})
        expect(labels.get("severity") in ("critical", "warning"), f"{name}: severity")
        expect("for" in rule, f"{name}: no `for`")
        for text in ("summary", "description"):
            expect(annotations.get(text), f"{name}: no {text}")
        page = f"{RUNBOOK}#{name.lower()}"
        expect(annotations.get("runbook_url") == page, f"{name}: runbook_url is not {page}")
    for name, rule in (alerts | records).items():
        for metric, selector in re.findall(r"((?:portway|process)_\w+|\bup\b)(\{[^}]*\})?", without_records(rule["expr"])):
            expect('job="portway"' in selector, f"{name}: {metric} of any job")


def check_runbook():
    headings = re.findall(r"^## (Portway\w*)$", runbook, re.M)
    expect(sorted(headings) == sorted(alerts), f"{RUNBOOK} has sections {headings}, alerts are {list(alerts)}")
    for section in runbook.split("\n## ")[1:]:
        name, _, text = section.partition("\n\n")
        if name in alerts:
            severity = alerts[name]["labels"]["severity"].capitalize()
            expect(text.startswith(f"{severity}. "), f"{RUNBOOK}: {name} does not begin with {severity}")
            expect("\nDo: " in text or "\nDo:\n" in text, f"{RUNBOOK}: {name} does not say what to do")


def check_tests():
    """Checks that each alert does not fire, fires, and ends, in this order in one test."""
    proven = set()
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        states = {}
        for case in sorted(test["alert_rule_test"], key=lambda case: seconds(case["eval_time"])):
            states.setdefault(case["alertname"], []).append("01"["exp_alerts" in case])
        expect(set(states) <= set(alerts), f"{TESTS}: {test['name']} is about an alert that is not there")
        proven |= {name for name in states if re.fullmatch("0+1+0+", "".join(states[name]))}
    missing = sorted(set(alerts) - proven)
    expect(not missing, f"{TESTS}: no test has below, firing and ended of {missing}")


def seconds(duration):
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))


def check_kubernetes():
    operator = yaml.safe_load(OPERATOR.read_text())
    expect(operator["spec"]["groups"] == groups, f"the groups of {OPERATOR} are not those of {RULES}")
    endpoints = yaml.safe_load(POD_MONITOR.read_text())["spec"]["podMetricsEndpoints"]
    for endpoint in endpoints:
        expect({"action": "replace", "targetLabel": "job", "replacement": "portway"} in endpoint["relabelings"],
               f"{POD_MONITOR}: the job is not portway")
    page, ticket = (" ".join(alerts[name]["expr"].split()) for name in ("PortwayBackendFailing", "PortwayBackendFailingOnInstance"))
    expect(f"( {page} )" in ticket, "PortwayBackendFailingOnInstance does not leave out what PortwayBackendFailing pages for")


def without_records(text):
    """Removes the names that rules record: level:metric:operations."""
    return re.sub(r"\w+:\w+:\w+", "", text)


# === against the page of a running portway


def page_of(load):
    """The page, once a check has seen the certificate of the live backend."""
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen("http://{}:{}/metrics".format(*load.admin), timeout=10) as answer:
            page = answer.read().decode()
        if "portway_backend_certificate_not_after_timestamp_seconds{" in page or time.monotonic() > deadline:
            return page
        time.sleep(0.1)


def check_names(page):
    """Checks that every metric that is named exists, and every label value that is written out."""
    known = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M):
        known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    texts = {RULES: json.dumps(groups), RUNBOOK: runbook, DASHBOARD: DASHBOARD.read_text(), POD_MONITOR: POD_MONITOR.read_text()}
    for path, text in texts.items():
        named = set(re.findall(r"\b(?:portway|process)_[a-z_]+\b", without_records(text)))
        missing = sorted(named - known)
        expect(not missing, f"{path} names what is not on the page: {', '.join(missing)}")
        recorded = set(re.findall(r"\w+:\w+:\w+", text)) - set(records)
        expect(not recorded, f"{path} names what no rule records: {recorded}")
        for label, values in re.findall(r'\b(outcome|limit|reason|direction|mode|result)!?=~?\\?"([^"\\]+)', text):
            for value in values.split("|"):
                if f'{label}="{value}"' not in page:
                    faults.append(f"{path}: no series has {label}={value}")


def configure(**instances):
    """Writes a configuration that scrapes these instances. Returns its path."""
    config = yaml.safe_load(SCRAPE.read_text())
    config["global"] = {"evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES.resolve())]
    for job in config["scrape_configs"]:
        job["scrape_interval"] = "1s"
        [example] = job["static_configs"]
        job["static_configs"] = [
            {"targets": ["{}:{}".format(*admin)], "labels": example["labels"] | {"instance": name.replace("_", "-")}}
            for name, admin in instances.items()
        ]
    path = WORK / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def check_prometheus(load):
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = Prometheus(free.getsockname()[1])
    server.start(configure(edge_1=load.admin))
    try:
        server.wait("up", lambda: server.query('up{job="portway"} == 1'))
        # Counts that the first scrape finds are not an increase.
        use(load)
        fires = {"backend": "elasticsearch", "job": "portway", "site": "plant-1", "severity": "critical"}
        server.wait("PortwayBackendFailing pending", lambda: server.active() == [("PortwayBackendFailing", fires)])
        check_rules(server)
        check_dashboard(server, load)
    finally:
        server.stop()


def use(load):
    """Makes connections for some seconds: to a live backend, to a dead one, and without a route."""
    answered = 0
    for _ in range(40):
        answered += sum(load.connect("fleet.example.com") for _ in range(5))
        for name in ("es.example.com", "es.example.com", "nobody.example.com"):
            expect(not load.connect(name), f"{name} is answered")
        time.sleep(0.1)
    expect(answered == 200, f"the live backend answered {answered} of 200")


def check_rules(server):
    listed = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
    expect(len(listed) == len(rules), f"Prometheus has {len(listed)} rules of {len(rules)}")
    for rule in listed:
        expect(rule["health"] == "ok", f"{rule['name']}: {rule['health']}, {rule.get('lastError')}")
    for name in records:
        expect(server.query(name), f"{name} has no value")
    for name, rule in alerts.items():
        try:
            server.query(rule["expr"])
        except ValueError as error:
            faults.append(f"{name}: {error}")
    for query in runbook_queries():
        try:
            found = server.query(query.replace("BACKEND", "elasticsearch"))
            print(f"{len(found):4} {query}")
        except ValueError as error:
            faults.append(f"{RUNBOOK}: {query}: {error}")
    for name in ("portway_connections_accepted_total", "portway_dial_failures_total"):
        expect(server.query(f"sum({name}) > 50"), f"{name}: the load is not in Prometheus")


def check_dashboard(server, load):
    """Checks that each query of each panel has data while everything that it is about happens."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = {
        (panel["title"], target["refId"]): filled_in(target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    described = [panel for row in yaml.safe_load(PANELS.read_text())["rows"] for panel in row["panels"]]
    may_be_zero = {panel["title"] for panel in described if "may_be_zero" in panel}
    troubles = Troubles(os.environ["PORTWAY"], WORK)
    begun = time.time()
    try:
        configure(edge_1=load.admin, edge_2=troubles.admin)
        server.reload()
        server.wait("edge-2 up", lambda: len(server.query('up{job="portway"} == 1')) == 2)
        missing = list(panels)
        for _ in range(4):
            troubles.cause()
            use(load)
            missing = [key for key in panels if not server.has_data(panels[key], begun, key[0] in may_be_zero)]
            print(f"after {time.time() - begun:.0f} s {len(missing)} queries have no data: {missing}")
            if not missing:
                break
        for title, letter in missing:
            faults.append(f"{DASHBOARD}: {title}, {letter}: no data: {panels[title, letter]}")
        for annotation in dashboard["annotations"]["list"]:
            server.range(filled_in(annotation["expr"]), begun)
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
                values = server.get(f"label/{label}/values", **{"match[]": filled_in(selector)})
                expect(values, f"{DASHBOARD}: the variable {variable['name']} has no value")
    finally:
        troubles.stop()


def filled_in(expr):
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr


class Prometheus:
    """A real Prometheus on loopback, with its data in WORK."""

    def __init__(self, port):
        self.address = f"127.0.0.1:{port}"
        self.log = WORK / "prometheus.log"

    def start(self, config):
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={WORK / 'data'}",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log.open("w"))

    def reload(self):
        """Has it read its file again."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def get(self, what, **parameters):
        url = f"http://{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from error

    def query(self, expr):
        return self.get("query", query=expr)["result"]

    def range(self, expr, begun):
        """The series of the time since then."""
        return self.get("query_range", query=expr, start=begun, end=time.time(), step=1)["result"]

    def has_data(self, expr, begun, zero_is_enough):
        values = [value for series in self.range(expr, begun) for _, value in series["values"] if value != "NaN"]
        return any(zero_is_enough or float(value) != 0 for value in values)

    def active(self):
        """The names and labels of all alerts that are pending or fire."""
        active = [alert["labels"] for alert in self.get("alerts")["alerts"]]
        return [(labels.pop("alertname"), labels) for labels in active]

    def wait(self, what, holds):
        """Waits until it holds, for at most a minute."""
        deadline = time.monotonic() + 60
        last = "no answer"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if holds():
                    return
                last = self.active()
            # While it starts it refuses connections, and then answers 503.
            except (OSError, ValueError) as error:
                last = error
            time.sleep(0.5)
        faults.append(f"not {what}: {last}\n{self.log.read_text()}")


check_rule_file()
check_runbook()
check_tests()
check_kubernetes()
load = Load(os.environ["PORTWAY"], WORK)
try:
    check_names(page_of(load))
    check_prometheus(load)
finally:
    load.stop()
for fault in faults:
    print(fault)
sys.exit(bool(faults))
