"""Describes the Kibana dashboard of the connection log, and makes deploy/elastic/dashboard.ndjson of it: saved objects with
a data view and panels of Lens.

    python3 deploy/elastic/dashboard.py --write     writes the file
    python3 deploy/elastic/dashboard.py             compares it

The fields are those of `log.format = "ecs"`, and of native lines behind deploy/elastic/ingest-pipeline.json.
"""

import json
import sys
from pathlib import Path

FILE = Path("deploy/elastic/dashboard.ndjson")
VIEW = "logs-portway.connections"
TIME = "@timestamp"
WIDTH = 48  # of Kibana's grid

KINDS = {"source.ip": "ip", TIME: "date"}
BYTES = {"id": "bytes", "params": {"decimals": 1}}
MILLIS = {"id": "number", "params": {"decimals": 1, "suffix": " ms"}}

# === columns


def count(label):
    return {
        "label": label,
        "dataType": "number",
        "operationType": "count",
        "scale": "ratio",
        "sourceField": "___records___",
        "params": {"emptyAsNull": True},
    }


def figure(label, operation, field, shown=None, **params):
    """A figure of a field: unique_count, sum, max, percentile."""
    if shown:
        params["format"] = shown
    return {
        "label": label,
        "dataType": "date" if field == TIME else "number",
        "operationType": operation,
        "scale": "ratio",
        "sourceField": field,
        "params": params,
    }


def last(label, field):
    """The last value of a text."""
    return {
        "label": label,
        "dataType": "string",
        "operationType": "last_value",
        "scale": "ordinal",
        "sourceField": field,
        "filter": {"language": "kuery", "query": f"{field}: *"},
        "params": {"sortField": TIME},
    }


def values(label, field, size, missing=False, other=False):
    """One row for each of the values that occur most; the first figure of the panel orders them."""
    return {
        "label": label,
        "dataType": KINDS.get(field, "string"),
        "operationType": "terms",
        "scale": "ordinal",
        "sourceField": field,
        "params": {
            "size": size,
            "orderBy": {"type": "column", "columnId": None},
            "orderDirection": "desc",
            "otherBucket": other,
            "missingBucket": missing,
            "parentFormat": {"id": "terms"},
            "include": [],
            "exclude": [],
            "includeIsRegex": False,
            "excludeIsRegex": False,
        },
    }


def over_time():
    return {
        "label": TIME,
        "dataType": "date",
        "operationType": "date_histogram",
        "scale": "interval",
        "sourceField": TIME,
        "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
    }


# === the panels: id, title, query, columns by id, with those that divide first; width and height

ENDED = "event.outcome: *"
# The failures that `portway status` counts: those that need something. Without a backend the client was refused; with one the
# connection has failed.
NEEDS = 'event.outcome: failure and not portway.outcome: ("drained" or "client_reset")'
DENIED = f"{NEEDS} and not portway.backend: *"
FAILED = f"{NEEDS} and portway.backend: *"
OPEN = "portway.phase: open"

PANELS = [
    ("ended", "Connections that ended", "metric", ENDED, 12, 6, {"figure": count("connections")}),
    ("denied", "Clients that were refused", "metric", DENIED, 12, 6,
     {"figure": figure("addresses", "unique_count", "source.ip")}),
    ("failed", "Connections that failed at a backend", "metric", FAILED, 12, 6, {"figure": count("connections")}),
    ("left-out", "Connections without a line of their own", "metric", "portway.suppressed: *", 12, 6,
     {"figure": figure("connections", "sum", "portway.suppressed")}),
    ("refused", "Who is refused, and why", "table", DENIED, 48, 12, {
        "outcome": values("outcome", "portway.outcome", 20),
        "client": values("client", "source.ip", 20),
        "name": values("server name", "tls.client.server_name", 5, missing=True),
        "count": count("connections"),
        "seen": figure("last seen", "max", TIME),
        "reason": last("reason", "event.reason"),
    }),
    ("backends", "Backends that fail", "table", FAILED, 24, 12, {
        "backend": values("backend", "portway.backend", 20),
        "outcome": values("outcome", "portway.outcome", 20),
        "count": count("connections"),
        "seen": figure("last seen", "max", TIME),
        "reason": last("reason", "event.reason"),
    }),
    ("outcomes", "Connections by outcome", "bars", "portway.outcome: *", 24, 12, {
        "time": over_time(),
        "split": values("outcome", "portway.outcome", 12, other=True),
        "count": count("connections"),
    }),
    ("bytes", "Bytes of the connections that ended, by backend", "bars", ENDED, 24, 12, {
        "time": over_time(),
        "split": values("backend", "portway.backend", 10, other=True),
        "bytes": figure("bytes", "sum", "network.bytes", BYTES),
    }),
    ("times", "Round-trip times, and the time to reach a backend", "lines", ENDED, 24, 12, {
        "time": over_time(),
        "client": figure("to the client, 95th percentile", "percentile", "portway.client_rtt_ms", MILLIS, percentile=95),
        "backend": figure("to the backend, 95th percentile", "percentile", "portway.backend_rtt_ms", MILLIS, percentile=95),
        "dial": figure("dial, 95th percentile", "percentile", "portway.dial_ms", MILLIS, percentile=95),
    }),
    ("open", "Connections that are open for long (log.interval)", "table", OPEN, 24, 12, {
        "client": values("client", "source.ip", 20),
        "name": values("server name", "tls.client.server_name", 3, missing=True),
        "bytes": figure("bytes", "max", "network.bytes", BYTES),
        "seen": figure("last seen", "max", TIME),
    }),
    ("paths", "Clients behind bad paths", "table", "portway.client_retransmits > 0", 24, 12, {
        "client": values("client", "source.ip", 20),
        "again": figure("packets sent again", "sum", "portway.client_retransmits"),
        "round-trip": figure("round trip", "max", "portway.client_rtt_ms", MILLIS),
    }),
]

CONTROLS = [("host", "Host", "host.name"), ("listener", "Listener", "portway.listener"),
            ("name", "Server name", "tls.client.server_name")]

# === saved objects


def is_bucket(column):
    return column["operationType"] in ("terms", "date_histogram")


def visualization(kind, layer, columns):
    """How Lens shows the columns of a layer."""
    figures = [name for name, column in columns.items() if not is_bucket(column)]
    if kind == "metric":
        return "lnsMetric", {"layerId": layer, "layerType": "data", "metricAccessor": figures[0]}
    if kind == "table":
        shown = [{"columnId": name, "isTransposed": False, "isMetric": name in figures} for name in columns]
        order = {"columnId": figures[0], "direction": "desc"}
        return "lnsDatatable", {"layerId": layer, "layerType": "data", "columns": shown, "sorting": order}
    series = "bar_stacked" if kind == "bars" else "line"
    data = {"layerId": layer, "layerType": "data", "seriesType": series, "xAccessor": "time", "accessors": figures,
            "position": "top", "showGridlines": False}
    if "split" in columns:
        data["splitAccessor"] = "split"
    legend = {"isVisible": True, "position": "right"}
    return "lnsXY", {"layers": [data], "preferredSeriesType": series, "legend": legend, "valueLabels": "hide"}


def panel(name, title, kind, query, place, columns):
    layer = f"{name}-layer"
    columns = json.loads(json.dumps(columns))
    first = next(key for key, column in columns.items() if not is_bucket(column))
    for column in columns.values():
        column |= {"isBucketed": is_bucket(column), "customLabel": True}
        if "orderBy" in column["params"]:
            column["params"]["orderBy"]["columnId"] = first
    type_, shown = visualization(kind, layer, columns)
    reference = {"type": "index-pattern", "id": VIEW, "name": f"indexpattern-datasource-layer-{layer}"}
    layers = {layer: {"columns": columns, "columnOrder": list(columns), "incompleteColumns": {}, "sampling": 1}}
    attributes = {
        "title": title,
        "description": "",
        "type": "lens",
        "visualizationType": type_,
        "references": [reference],
        "state": {
            "visualization": shown,
            "query": {"language": "kuery", "query": query},
            "filters": [],
            # Kibana's migrations of panels look for the older name too.
            "datasourceStates": {"formBased": {"layers": layers}, "indexpattern": {"layers": {}}, "textBased": {"layers": {}}},
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }
    made = {"type": "lens", "panelIndex": name, "gridData": place | {"i": name}, "title": title,
            "embeddableConfig": {"attributes": attributes, "enhancements": {}}}
    return made, reference | {"name": f"{name}:{reference['name']}"}


def panels():
    """The panels from left to right and from top to bottom, and what they refer to."""
    x = y = 0
    made = []
    for name, title, kind, query, width, height, columns in PANELS:
        if x + width > WIDTH:
            raise SystemExit(f"{name} does not fit into its row")
        made.append(panel(name, title, kind, query, {"x": x, "y": y, "w": width, "h": height}, columns))
        x += width
        if x == WIDTH:
            x, y = 0, y + height
    if x:
        raise SystemExit("the last row is not full")
    return [one for one, _ in made], [reference for _, reference in made]


def controls():
    made, references = {}, []
    for order, (name, title, field) in enumerate(CONTROLS):
        made[name] = {"type": "optionsListControl", "order": order, "grow": True, "width": "medium",
                      "explicitInput": {"id": name, "fieldName": field, "title": title, "selectedOptions": []}}
        references.append({"type": "index-pattern", "id": VIEW, "name": f"controlGroup_{name}:optionsListDataView"})
    group = {"chainingSystem": "HIERARCHICAL", "controlStyle": "oneLine", "panelsJSON": json.dumps(made),
             "ignoreParentSettingsJSON": json.dumps({"ignoreFilters": False, "ignoreQuery": False, "ignoreTimerange": False,
                                                     "ignoreValidations": False})}
    return group, references


def saved_objects():
    view = {"type": "index-pattern", "id": VIEW, "references": [], "managed": False,
            "coreMigrationVersion": "8.8.0", "typeMigrationVersion": "8.0.0",
            "attributes": {"title": f"{VIEW}-*", "name": "portway: connections", "timeFieldName": TIME}}
    shown, references = panels()
    group, of_controls = controls()
    search = {"query": {"language": "kuery", "query": ""}, "filter": []}
    options = {"useMargins": True, "syncColors": True, "syncCursor": True, "syncTooltips": False, "hidePanelTitles": False}
    dashboard = {"type": "dashboard", "id": "portway-connections", "references": references + of_controls, "managed": False,
                 "coreMigrationVersion": "8.8.0", "typeMigrationVersion": "8.9.0",
                 "attributes": {
                     "title": "portway: connections",
                     "description": "Who is refused and why, which backend fails, and what passes.",
                     "panelsJSON": json.dumps(shown), "optionsJSON": json.dumps(options), "controlGroupInput": group,
                     "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(search)},
                     "timeRestore": True, "timeFrom": "now-24h", "timeTo": "now", "version": 1}}
    return "".join(json.dumps(one) + "\n" for one in (view, dashboard))


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(saved_objects())
    elif FILE.read_text() != saved_objects():
        sys.exit(f"{FILE} is not what {sys.argv[0]} describes: run it with --write")
