"""Runs Filebeat with the inputs of docs/elastic/observing.md on logs that portway writes, and compares its events with the
lines. $FILEBEAT is the program; go can build it from the module github.com/elastic/beats/v7."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from pathlib import Path

WORK = Path(os.environ["WORK"])
PAGE = Path("docs/elastic/observing.md")
ON_THE_PAGE = "/var/log/portway/connections.ndjson"
PATIENCE = 60

ROUTES = """\
admin.bind = false
listeners.agents.bind = ["127.0.0.1:{port}"]
backends.fleet.endpoints = ["127.0.0.1:1"]
routes.fleet = {{ server_names = ["fleet.example.com"], backend = "fleet" }}
"""


def until(what, ask):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.05)
    sys.exit(f"not within {PATIENCE} s: {what}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def make_log(form, path):
    """Three connections that end in different ways; returns their lines."""
    port = free_port()
    routes = path.with_suffix(".toml")
    routes.write_text(ROUTES.format(port=port))
    with path.open("wb") as out, path.with_suffix(".err").open("wb") as err:
        command = [os.environ["PORTWAY"], "run", "--config", routes, "--log-format", form]
        portway = subprocess.Popen(command, stdout=out, stderr=err)
        try:
            until("portway listens", lambda: b"ready" in path.with_suffix(".err").read_bytes())
            for name in ("fleet.example.com", "flet.example.com"):
                try:
                    context = ssl.create_default_context()
                    with socket.create_connection(("127.0.0.1", port)) as client:
                        context.wrap_socket(client, server_hostname=name)
                except OSError:
                    pass
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                client.recv(1)
        except OSError:
            pass
        finally:
            portway.terminate()
            portway.wait(PATIENCE)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3, lines
    return lines


def events_of(number, block, path):
    """The events of a Filebeat with this input."""
    home = WORK / f"filebeat-{number}"
    home.mkdir()
    config = home / "filebeat.yml"
    output = f"output.file:\n  path: {home}\n  filename: events\nlogging.to_stderr: true\n"
    config.write_text(block.replace(ON_THE_PAGE, str(path)) + output)
    config.chmod(0o600)
    command = [os.environ["FILEBEAT"], "-c", config, "--path.home", home, "--path.data", home / "data", "--strict.perms=false"]
    with (home / "log").open("wb") as log:
        filebeat = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        def read():
            texts = [file.read_text() for file in sorted(home.glob("events*"))]
            lines = "".join(texts).splitlines(keepends=True)
            whole = [json.loads(line) for line in lines if line.endswith("\n")]
            return whole if len(whole) >= 3 else None

        return until(f"events, see {home}/log", read)
    finally:
        filebeat.terminate()
        filebeat.wait(PATIENCE)


def flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    parts = [flat(inner, f"{prefix}.{key}" if prefix else key) for key, inner in value.items()]
    return {key: inner for part in parts for key, inner in part.items()}


blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
[processors] = [block for block in blocks if block.startswith("- decode_json_fields:")]
inputs = [block for block in blocks if "filebeat.inputs" in block]
assert len(inputs) == 2 and all(ON_THE_PAGE in block for block in inputs), inputs
# The processors for the journal get each line as it is, as from journald.
plain = f'filebeat.inputs:\n  - type: filestream\n    id: plain\n    paths: ["{ON_THE_PAGE}"]\n    processors:\n'
journal = plain + textwrap.indent(processors, " " * 6)
for number, (form, block) in enumerate([("ecs", inputs[0]), ("json", inputs[1]), ("ecs", journal)]):
    log = WORK / f"{number}-{form}.ndjson"
    lines = make_log(form, log)
    events = events_of(number, block, log)
    assert len(events) == len(lines), events
    for line, event in zip(lines, events):
        wanted = flat(line if form == "ecs" else {"portway": line})
        got = flat(event)
        missing = {key: value for key, value in wanted.items() if got.get(key) != value}
        assert not missing, f"{form}: {missing} in {event}"
        assert "error.message" not in got, event
    print(f"{form}: {len(events)} events with every field of their lines")
