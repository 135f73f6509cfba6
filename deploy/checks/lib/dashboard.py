"""The part of the check `dashboard` that looks at the JSON: see there.

Each rule is tested with a dashboard that breaks it.
"""

import copy
import json
import re
import sys
from pathlib import Path

import yaml
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

DASHBOARD = Path("deploy/grafana/portway.json")
PANELS = Path("deploy/grafana/dashboard.yaml")
RULES = Path("deploy/prometheus/rules.yaml")
METRICS = Path("docs/metrics.md")
RUNBOOK = Path("docs/runbook.md")

UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
COLUMNS = 24
# `kubectl apply` keeps the whole object in an annotation, which may have 256 KiB.
LARGEST = 200 * 1024
# One alert is not about one instance.
WITHOUT_INSTANCE = ("ALERTS", "backend:")


def graphs(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard):
    return [(panel["title"], target["expr"]) for panel in graphs(dashboard) for target in panel["targets"]]


def identity(dashboard, _):
    if dashboard.get("id") is not None:
        yield "an id belongs to one installation of Grafana"
    if not re.fullmatch(r"[\w-]{1,40}", dashboard.get("uid", "")):
        yield "no uid, so each import makes a new dashboard"
    if dashboard.get("schemaVersion", 0) < 39:
        yield "schemaVersion is older than Grafana 11"
    if len(json.dumps(dashboard, indent=2)) > LARGEST:
        yield f"more than {LARGEST} bytes"


def known_model(dashboard, _):
    """Whether the SDK reads what it has written."""
    # It cannot read the annotations of Prometheus back.
    try:
        models.Dashboard.from_json({**dashboard, "annotations": {"list": []}})
    except (KeyError, TypeError, ValueError) as error:
        yield f"not a dashboard: {error!r}"


def unique(dashboard, _):
    for key in ("id", "title"):
        found = [panel[key] for panel in dashboard["panels"]]
        for value in {it for it in found if found.count(it) > 1}:
            yield f"two panels have the {key} {value}"
    for panel in graphs(dashboard):
        letters = [target["refId"] for target in panel["targets"]]
        if len(set(letters)) != len(letters) or not letters:
            yield f"{panel['title']}: the queries are {letters}"


def grid(dashboard, _):
    taken = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        if at["x"] + at["w"] > COLUMNS or min(at["w"], at["h"]) < 1:
            yield f"{panel['title']}: outside of the grid"
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    yield f"{panel['title']} lies on {other}"
                    return


def texts(dashboard, _):
    for panel in graphs(dashboard):
        shows, _, do = panel.get("description", "").partition("\n\n**Do:** ")
        if not all(text.endswith((".", "!", "?")) and len(text) > 15 for text in (shows, do)):
            yield f"{panel['title']}: the description does not say what it shows and what to do"


def unit(dashboard, _):
    for panel in graphs(dashboard):
        defaults = [panel["fieldConfig"]["defaults"].get("unit")]
        overrides = [it["value"] for one in panel["fieldConfig"]["overrides"] for it in one["properties"] if it["id"] == "unit"]
        for it in defaults + overrides:
            if it not in UNITS:
                yield f"{panel['title']}: the unit {it} is not one of Grafana"


def source(dashboard, _):
    for panel in graphs(dashboard):
        for one in [panel, *panel["targets"]]:
            if one.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"{panel['title']}: the data source is not the variable"


def variables(dashboard, _):
    known = {it["name"] for it in dashboard["templating"]["list"]}
    for name in ("datasource", "job", "instance", "backend"):
        if name not in known:
            yield f"no variable {name}"
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard)))
    if used - known:
        yield f"these variables do not exist: {', '.join(sorted(used - known))}"


def matchers(dashboard, _):
    for title, expr in expressions(dashboard):
        for name, selector in re.findall(r"\b([a-zA-Z][\w:]*)(\{[^}]*\})", expr):
            if 'job=~"$job"' not in selector:
                yield f"{title}: {name} of any job"
            if 'instance=~"$instance"' not in selector and not name.startswith(WITHOUT_INSTANCE):
                yield f"{title}: {name} of any instance"
        bare = re.findall(r"\b(?:portway|process)_\w+(?![\w{])", re.sub(r"\w+:\w+:\w+", "", expr))
        if bare:
            yield f"{title}: {', '.join(bare)} of any job"


def legends(dashboard, _):
    for panel in graphs(dashboard):
        for target in panel["targets"]:
            grouped = re.match(r"(?:sum|max|min|count) by \(([^)]*)\)", target["expr"])
            shown = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            if panel["type"] in ("timeseries", "state-timeline") and grouped:
                labels = set(grouped[1].split(", ")) - {"job", "cluster"}
                if labels != shown:
                    yield f"{panel['title']}: series of {sorted(labels)}, and the legend has {sorted(shown)}"


def every_alert(dashboard, description):
    alerts = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
    seen = set()
    for panel in described(description):
        seen |= set(panel.get("alerts", []))
        unknown = set(panel.get("alerts", [])) - set(alerts)
        if unknown:
            yield f"{panel['title']}: no rule is named {unknown}"
        elif "above" in panel and not re.search(rf"> {panel['above']}\b", alerts[panel["alerts"][0]]):
            yield f"{panel['title']}: {panel['alerts'][0]} does not compare with {panel['above']}"
    if set(alerts) - seen:
        yield f"no panel explains {', '.join(sorted(set(alerts) - seen))}"


def every_metric(dashboard, description):
    table = set(re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", METRICS.read_text(), re.M))
    asked = " ".join(expr for _, expr in expressions(dashboard))
    shown = {name for name in table if re.search(rf"\b{name}(_bucket|_sum|_count)?\b", asked)}
    left_out = set(description["not_shown"])
    for name in sorted(table - shown - left_out):
        yield f"no panel shows {name}: add one, or a reason to not_shown of {PANELS}"
    for name in sorted(left_out & shown | left_out - table):
        yield f"{name} is in not_shown, and is shown or does not exist"


def runbook_links(dashboard, _):
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(), re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for panel in graphs(dashboard):
        for link in panel.get("links", []):
            address, _, anchor = link["url"].partition("#")
            if address != "${runbook}" or (anchor and anchor not in anchors):
                yield f"{panel['title']}: {link['url']} is not a section of the runbook"


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def described(description):
    return [panel for row in description["rows"] for panel in row["panels"]]


# Each rule, and a change of `it`, a dashboard, or of `panels`, its description, that it must find.
CHECKS = [
    (identity, "it['id'] = 7"),
    (identity, "del it['uid']"),
    (identity, "it['schemaVersion'] = 36"),
    (identity, "it['description'] = 'x' * 200_000"),
    (known_model, "it['panels'][1]['gridPos']['w'] = {}; it['panels'] = {'a': 1}"),
    (unique, "it['panels'][2]['id'] = it['panels'][1]['id']"),
    (unique, "it['panels'][2]['title'] = it['panels'][1]['title']"),
    (unique, "it['panels'][2]['targets'][1]['refId'] = 'A'"),
    (grid, "it['panels'][2]['gridPos']['x'] = 0"),
    (grid, "it['panels'][4]['gridPos']['w'] = 9"),
    (texts, "it['panels'][1]['description'] = 'The alerts.'"),
    (texts, "del it['panels'][1]['description']"),
    (unit, "it['panels'][1]['fieldConfig']['defaults']['unit'] = 'connections'"),
    (unit, "del it['panels'][1]['fieldConfig']['defaults']['unit']"),
    (source, "it['panels'][1]['datasource']['uid'] = 'prometheus'"),
    (source, "del it['panels'][1]['targets'][0]['datasource']"),
    (variables, "it['templating']['list'].pop(1)"),
    (variables, "it['panels'][1]['targets'][0]['expr'] += ' + $other'"),
    (matchers, "it['panels'][2]['targets'][0]['expr'] = 'sum(up{instance=~\"$instance\"})'"),
    (matchers, "it['panels'][2]['targets'][0]['expr'] = 'sum(up{job=~\"$job\"})'"),
    (matchers, "it['panels'][2]['targets'][0]['expr'] = 'sum(process_open_fds)'"),
    (legends, "it['panels'][9]['targets'][0]['legendFormat'] = '{{listener}}'"),
    (every_alert, "described(panels)[0]['alerts'] = ['PortwayUp']"),
    (every_alert, "[one] = [it for it in described(panels) if it['title'] == 'Last reload']; del one['alerts']"),
    (every_alert, "[one] = [it for it in described(panels) if it['title'] == 'Worst backend']; one['above'] = 0.3"),
    (every_metric, "it['panels'].pop()"),
    (every_metric, "panels['not_shown']['portway_limit'] = 'It is shown.'"),
    (every_metric, "panels['not_shown'].clear()"),
    (runbook_links, "it['panels'][1]['links'][0]['url'] = '${runbook}#nothing'"),
    (runbook_links, "it['panels'][1]['links'][0]['url'] = 'docs/runbook.md'"),
]


def missed(dashboard, panels):
    for check, change in CHECKS:
        names = {"it": copy.deepcopy(dashboard), "panels": copy.deepcopy(panels), "described": described}
        exec(change, names)
        if not list(check(names["it"], names["panels"])):
            yield f"{check.__name__} lets pass: {change}"


def main():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = yaml.safe_load(PANELS.read_text())
    checks = dict.fromkeys(check for check, _ in CHECKS)
    faults = [f"{check.__name__}: {fault}" for check in checks for fault in check(dashboard, panels)]
    faults += missed(dashboard, panels)
    print(f"{len(graphs(dashboard))} panels, {len(expressions(dashboard))} queries, {len(CHECKS)} broken variants")
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
