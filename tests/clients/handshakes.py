"""Compares what portway tells of TLS handshakes with what real clients and servers made of them.

`run` starts it. Each failure is caused between each client and each server, and portway's log line must name the side
that refused; the table of it is in docs/handshakes.md. Then healthy connections of every kind must not look like
failures. It prints a line for each fault, and `N passed, N failed`; the exit status is 1 if one failed.

    handshakes.py PORTWAY DIRECTORY PROGRAMS [--write]

PROGRAMS are those of Go, Java and rustls, with semicolons between them. HANDSHAKES is the number of healthy connections of each
client. `--write` writes the table instead of comparing it.
"""

import json
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from clients import PATIENCE, Checks, Portway, split, stop

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "handshakes.md"
HANDSHAKES = int(os.environ.get("HANDSHAKES", "64"))
VERSIONS = ["1.2", "1.3"]
SERVERS = ["OpenSSL", "Go", "Java", "rustls"]
CLIENTS = ["Go", "OpenSSL", "curl", "GnuTLS", "Python", "Node.js", "Java", "rustls"]
# portway writes at most ten lines per second of an outcome.
PACE = 0.11
REQUEST = "GET / HTTP/1.1\r\nHost: {}\r\n\r\n"
SSL_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
SUITES = {"128": "ECDHE-ECDSA-AES128-GCM-SHA256", "256": "ECDHE-ECDSA-AES256-GCM-SHA384"}
GROUPS = {"x25519": "X25519", "p384": "P-384"}


# === servers

# Each server of an implementation, with its words.
KINDS_OF_SERVER = {
    "plain": {"cert": "server"},
    "expired": {"cert": "expired"},
    "misnamed": {"cert": "misnamed"},
    "mutual": {"cert": "server", "ask": "ca.crt"},
    "old": {"cert": "server", "max": "1.2"},
    "recent": {"cert": "server", "min": "1.3"},
    "strong": {"cert": "server", "max": "1.2", "cipher": "256"},
    "p384": {"cert": "server", "group": "p384"},
    "h2": {"cert": "server", "alpn": "h2"},
    "other": {"cert": "server", "only": "elsewhere.example.com"},
    "ticketless": {"cert": "server", "ticketless": ""},
    "closes": {"cert": "server", "closes": ""},
    "mutual-closes": {"cert": "server", "ask": "ca.crt", "closes": ""},
    "mutual-ticketless": {"cert": "server", "ask": "ca.crt", "ticketless": ""},
}
# s_server closes only behind a request, and the groups of a JDK are those of its process.
LACKING = {"OpenSSL": ["closes", "mutual-closes"], "Java": ["p384", "ticketless", "mutual-ticketless"]}


def words_of(words, directory):
    """The words of a program, with the whole paths of files."""
    paths = {key: directory / words[key] for key in ["cert", "ca", "ask"] if key in words}
    return ",".join(f"{key}={value}" for key, value in {**words, **paths}.items())


class Servers:
    """The servers of one implementation."""

    def __init__(self, implementation, programs, directory):
        kinds = {kind: words for kind, words in KINDS_OF_SERVER.items()
                 if kind not in LACKING.get(implementation, [])}
        self.processes, self.addresses = [], {}
        if implementation == "OpenSSL":
            for kind, words in kinds.items():
                self.start(openssl_server(words, directory), kind)
        else:
            words = [words_of({"name": kind, **words}, directory) for kind, words in kinds.items()]
            self.start([*programs[implementation], "servers", *words])

    def start(self, command, kind=None):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        for line in process.stdout:
            if line.startswith("ready"):
                break
            name, address = line.split()[:2]
            self.addresses[kind or name] = address
            if name == "ACCEPT":
                break
        # Further output must not fill the pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            stop(process, process.terminate)


def openssl_server(words, directory):
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www",
               "-cert", directory / f"{words['cert']}.crt", "-key", directory / f"{words['cert']}.key"]
    if "ask" in words:
        command += ["-CAfile", directory / words["ask"], "-Verify", "1", "-verify_return_error"]
    if "only" in words:
        command += ["-servername", words["only"], "-servername_fatal",
                    "-cert2", directory / "server.crt", "-key2", directory / "server.key"]
    if "ticketless" in words:
        command += ["-num_tickets", "0", "-no_ticket"]
    return command + openssl_flags(words)


def openssl_flags(words):
    """The flags that servers and clients of OpenSSL have in common."""
    flags = []
    if words.get("max") == "1.2":
        flags += ["-tls1_2"]
    if words.get("min") == "1.3":
        flags += ["-tls1_3"]
    if "cipher" in words:
        flags += ["-cipher", SUITES[words["cipher"]]]
    if "group" in words:
        flags += ["-groups", GROUPS[words["group"]]]
    if "alpn" in words:
        flags += ["-alpn", words["alpn"]]
    return flags


class Stubs:
    """Servers that do not finish a handshake, in front of a real one or without it."""

    def __init__(self, plain):
        self.plain = plain
        self.listeners, self.addresses = [], {}
        for kind, answer in {
            "http": lambda client: say(client, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "ssh": lambda client: say(client, b"SSH-2.0-OpenSSH_9.9\r\n"),
            "nothing": lambda client: client.recv(1),
            "silent": lambda client: client.recv(1 << 16) and client.recv(1),
            "killed": lambda client: self.cut(client, is_late=False, is_reset=True),
            "closed": lambda client: self.cut(client, is_late=False, is_reset=False),
            "killed-late": lambda client: self.cut(client, is_late=True, is_reset=True),
        }.items():
            listener = socket.create_server(("127.0.0.1", 0))
            self.listeners.append(listener)
            self.addresses[kind] = "{}:{}".format(*listener.getsockname())
            threading.Thread(target=self.serve, args=(listener, answer), daemon=True).start()

    def serve(self, listener, answer):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), client:
                client.settimeout(PATIENCE)
                answer(client)

    def cut(self, client, is_late, is_reset):
        """Passes the hello on, and goes away behind the first bytes of the answer or behind the client's next flight."""
        with socket.create_connection(split(self.plain), PATIENCE) as server:
            server.sendall(hello_of(client))
            client.sendall(server.recv(1 << 16))
            # A server may write its answer in several pieces.
            while is_late and client not in select.select([client, server], [], [], PATIENCE)[0]:
                client.sendall(server.recv(1 << 16))
            if is_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for listener in self.listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def hello_of(client):
    """The first record of a client."""
    header = client.recv(5, socket.MSG_WAITALL)
    return header + client.recv(int.from_bytes(header[3:]), socket.MSG_WAITALL)


def say(client, words):
    client.recv(1 << 16)
    client.sendall(words)
    client.shutdown(socket.SHUT_WR)
    client.recv(1 << 16)


# === clients


class Asked:
    """A program that makes the connections which it is asked for on stdin."""

    def __init__(self, command, directory, env=None):
        self.directory = directory
        self.process = subprocess.Popen([*command, "handshakes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env)

    def __call__(self, words):
        print(words_of(words, self.directory), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        return None if answer == "ok" else answer.removeprefix("error ")

    def close(self):
        stop(self.process, self.process.stdin.close)


class Once:
    """A program that makes one connection, as its flags say."""

    def __init__(self, command, directory):
        self.command, self.directory = command, directory

    def __call__(self, words):
        for _ in range(int(words["count"])):
            error = self.connect(words)
            if error:
                return error
        return None

    def connect(self, words):
        command = self.command(words, self.directory)
        if words["how"] == "close":
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=PATIENCE)
            return done.stderr if done.returncode else None
        process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(REQUEST.format(words["name"]))
                process.stdin.flush()
            answer = process.stdout.read()
        finally:
            watchdog.cancel()
            with suppress(BrokenPipeError):
                process.stdin.close()
            stop(process, process.terminate)
        return None if "HTTP/1." in answer else answer or f"exit status {process.returncode}"

    def close(self):
        pass


def openssl_client(words, directory):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{words['port']}", "-servername", words["name"],
               "-verify_quiet", "-verify_return_error", "-verify_hostname", words["name"],
               "-CAfile", directory / words["ca"], *openssl_flags(words)]
    if words["how"] == "get":
        command += ["-quiet"]
    if "cert" in words:
        command += ["-cert", directory / f"{words['cert']}.crt", "-key", directory / f"{words['cert']}.key"]
    return command


def gnutls_client(words, directory):
    priority = "NORMAL"
    if words.get("max") == "1.2":
        priority += ":-VERS-ALL:+VERS-TLS1.2"
    if words.get("min") == "1.3":
        priority += ":-VERS-ALL:+VERS-TLS1.3"
    if words.get("cipher") == "128":
        priority += ":-CIPHER-ALL:+AES-128-GCM"
    if words.get("group") == "x25519":
        priority += ":-GROUP-ALL:+GROUP-X25519"
    command = ["gnutls-cli", "--port", words["port"], "--sni-hostname", words["name"],
               "--verify-hostname", words["name"], "--x509cafile", directory / words["ca"], "--priority", priority]
    if "alpn" in words:
        command += ["--alpn", words["alpn"]]
    if "cert" in words:
        command += ["--x509certfile", directory / f"{words['cert']}.crt",
                    "--x509keyfile", directory / f"{words['cert']}.key"]
    return [*command, "127.0.0.1"]


class Curl:
    def __init__(self, directory):
        self.directory = directory

    def __call__(self, words):
        name, port = words["name"], words["port"]
        command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE), "--noproxy", "*", "--globoff",
                   "--no-sessionid", "--header", "Connection: close", "--output", "/dev/null",
                   "--cacert", self.directory / words["ca"], "--resolve", f"{name}:{port}:127.0.0.1"]
        if words.get("max") == "1.2":
            command += ["--tls-max", "1.2"]
        if words.get("min") == "1.3":
            command += ["--tlsv1.3"]
        if "cipher" in words:
            command += ["--ciphers", SUITES[words["cipher"]]]
        if "group" in words:
            command += ["--curves", GROUPS[words["group"]]]
        if "cert" in words:
            command += ["--cert", self.directory / f"{words['cert']}.crt",
                        "--key", self.directory / f"{words['cert']}.key"]
        # curl gives only the last of `--output` to each URL.
        urls = "".join(f'url = "https://{name}:{port}/"\noutput = "/dev/null"\n' for _ in range(int(words["count"])))
        done = subprocess.run([*command, "--fail-early", "--config", "-"], input=urls, capture_output=True, text=True,
                              timeout=900)
        return done.stderr if done.returncode else None

    def close(self):
        pass


class Python:
    def __init__(self, directory):
        self.directory = directory

    def __call__(self, words):
        context = self.context(words)
        session = None
        try:
            for _ in range(int(words["count"])):
                session = self.connect(context, words, session)
        except OSError as error:
            return str(error)
        return None

    def context(self, words):
        context = ssl.create_default_context(cafile=self.directory / words["ca"])
        context.minimum_version = SSL_VERSIONS[words["min"]]
        context.maximum_version = SSL_VERSIONS[words["max"]]
        if "cipher" in words:
            context.set_ciphers(SUITES[words["cipher"]])
        if "group" in words:
            context.set_ecdh_curve(GROUPS[words["group"]])
        if "alpn" in words:
            context.set_alpn_protocols([words["alpn"]])
        if "cert" in words:
            context.load_cert_chain(self.directory / f"{words['cert']}.crt", self.directory / f"{words['cert']}.key")
        return context

    def connect(self, context, words, session):
        with socket.create_connection(("127.0.0.1", int(words["port"])), PATIENCE) as plain:
            session = session if "resume" in words else None
            with context.wrap_socket(plain, server_hostname=words["name"], session=session) as secure:
                if words["how"] == "close":
                    # The server may have sent something before its end.
                    with suppress(OSError):
                        secure.unwrap()
                if words["how"] == "get":
                    secure.sendall(REQUEST.format(words["name"]).encode())
                    if not secure.recv(1 << 16):
                        raise OSError("no answer")
                    while secure.recv(1 << 16):
                        pass
                return secure.session

    def close(self):
        pass


def open_clients(programs, directory):
    node = ["node", HERE / "node" / "handshakes.js"]
    return {
        "Go": Asked(programs["Go"], directory),
        "OpenSSL": Once(openssl_client, directory),
        "curl": Curl(directory),
        "GnuTLS": Once(gnutls_client, directory),
        "Python": Python(directory),
        "Node.js": Asked(node, directory),
        "Java": Asked(programs["Java"], directory),
        "rustls": Asked(programs["rustls"], directory),
    }


# === portway


class Site:
    """One portway in front of the servers of an implementation, and clients of its own."""

    def __init__(self, stack, portway, implementation, programs, directory):
        self.implementation = implementation
        self.servers = stack.enter_context(Servers(implementation, programs, directory))
        stubs = stack.enter_context(Stubs(self.servers.addresses["plain"]))
        place = directory / f"site-{implementation}"
        place.mkdir()
        self.addresses = {**self.servers.addresses, **stubs.addresses}
        (place / "routes.toml").write_text(routes_toml(self.addresses))
        self.relay = stack.enter_context(Portway(portway, place))
        self.port = str(self.relay.addresses["agents"][1])
        self.clients = open_clients(programs, directory)
        for client in self.clients.values():
            stack.callback(client.close)
        self.read = 0
        self.paced = 0

    def words(self, server, **words):
        return {"port": self.port, "name": host(server), "ca": "ca.crt", "count": 1, "how": "get", **words}

    def line(self, client, words):
        """Makes one connection, and returns the client's error and portway's line."""
        for _ in range(PATIENCE):
            time.sleep(max(0, self.paced + PACE - time.monotonic()))
            self.paced = time.monotonic()
            error = self.clients[client](words)
            line = self.lines(1)[0]
            if "suppressed" not in line:
                return error, line
        raise AssertionError("the log leaves each line out")

    def failed(self):
        """The handshakes that portway has counted as failed."""
        found = re.findall(r'^portway_handshakes_total{.*result="failed"} (\d+)', self.relay.scrape(), re.MULTILINE)
        return sum(map(int, found))

    def skip(self):
        """Leaves out the lines of a check that failed before it read them."""
        self.relay.settled()
        self.read = self.relay.log.stat().st_size

    def lines(self, count):
        """The next lines of the log, which tell the ends of so many connections."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with open(self.relay.log, "rb") as log:
                log.seek(self.read)
                whole = log.read().rpartition(b"\n")[0]
            lines = [json.loads(line) for line in whole.splitlines()]
            ended = sum(line.get("suppressed", 1) for line in lines)
            if ended >= count:
                self.read += len(whole) + 1
                assert ended == count, f"{ended} connections, not {count}"
                return lines
            assert time.monotonic() < deadline, f"{ended} of {count} connections have ended"
            time.sleep(0.005)


def host(server):
    return f"{server}.example.com"


def routes_toml(addresses):
    # A JDK that has just started is slow to make its first hello.
    tables = ['[listeners.agents]\nbind = ["127.0.0.1:0"]\n', '[admin]\nbind = "127.0.0.1:0"\n',
              '[limits]\nclient_hello_timeout = "1m"\n']
    for server, address in addresses.items():
        tables.append(f'[backends.{server}]\nendpoints = ["{address}"]\n'
                      f'[routes.{server}]\nserver_names = ["{host(server)}"]\nbackend = "{server}"\n')
    return "\n".join(tables)


# === certificates


def make_certificates(directory):
    config = directory / "ca.cnf"
    config.write_text(f"""[req]
distinguished_name = name
[name]
[ca]
default_ca = make
[make]
database = {directory}/index
rand_serial = yes
unique_subject = no
policy = any
new_certs_dir = {directory}
default_md = sha256
copy_extensions = copy
[any]
commonName = supplied
""")
    (directory / "index").write_text("")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def openssl(*command):
        subprocess.run(["openssl", *command], check=True, capture_output=True)

    def authority(name):
        openssl("req", "-x509", "-config", config, *key, "-days", "2", "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
                "-out", directory / f"{name}.crt", "-keyout", directory / f"{name}.key")

    def make(name, usage, issuer="ca", names="*.example.com", end=None):
        request = directory / f"{name}.csr"
        openssl("req", "-new", "-config", config, *key, "-subj", f"/CN={name}", "-addext", f"extendedKeyUsage={usage}",
                "-addext", f"subjectAltName=DNS:{names}", "-out", request, "-keyout", directory / f"{name}.key")
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] if end else ["-days", "2"]
        openssl("ca", "-batch", "-notext", "-config", config, "-cert", directory / f"{issuer}.crt",
                "-keyfile", directory / f"{issuer}.key", "-in", request, "-out", directory / f"{name}.crt", *dates)

    authority("ca")
    authority("stranger-ca")
    make("server", "serverAuth")
    make("misnamed", "serverAuth", names="another.example.net")
    make("expired", "serverAuth", end=True)
    make("agent", "clientAuth")
    make("stranger", "clientAuth", issuer="stranger-ca")
    make("late", "clientAuth", end=True)


# === failures


class Kind(NamedTuple):
    """Something that goes wrong, and the side that portway must name."""
    title: str
    versions: list
    server: str
    words: dict
    # "client" or "backend" for a side that refuses, an outcome, or None if nobody refuses anything.
    told: str | None


FAILURES = [
    Kind("the client does not trust the server's CA", VERSIONS, "plain", {"ca": "stranger-ca.crt"}, "client"),
    Kind("the server's certificate has expired", VERSIONS, "expired", {}, "client"),
    Kind("the server's certificate is for another name", VERSIONS, "misnamed", {}, "client"),
    Kind("the client has no certificate", VERSIONS, "mutual", {}, "backend"),
    Kind("the client's certificate is of another CA", VERSIONS, "mutual", {"cert": "stranger"}, "backend"),
    Kind("the client's certificate has expired", VERSIONS, "mutual", {"cert": "late"}, "backend"),
    Kind("the server speaks at most TLS 1.2, the client at least 1.3", ["1.3"], "old", {}, "backend"),
    Kind("the client speaks at most TLS 1.2, the server at least 1.3", ["1.2"], "recent", {}, "backend"),
    Kind("there is no common cipher suite", ["1.2"], "strong", {"cipher": "128"}, "backend"),
    Kind("there is no common group", ["1.3"], "p384", {"group": "x25519"}, "backend"),
    Kind("there is no common protocol (ALPN)", VERSIONS, "h2", {"alpn": "mqtt"}, "backend"),
    Kind("the server does not know the name", VERSIONS, "other", {}, "backend"),
    Kind("the server speaks HTTP", ["1.3"], "http", {}, "backend_not_tls"),
    Kind("the server speaks SSH", ["1.3"], "ssh", {}, "backend_not_tls"),
    Kind("the server closes without a byte", ["1.3"], "nothing", {}, "backend_closed_early"),
    Kind("the server resets in the handshake", VERSIONS, "killed", {}, None),
    Kind("the server closes in the handshake", VERSIONS, "closed", {}, None),
    Kind("the server resets behind the client's flight", VERSIONS, "killed-late", {}, None),
]
# curl always offers HTTP, and a JDK has the groups of its process.
UNABLE = {("curl", "h2"), ("Java", "p384")}
# These clients look at it when the handshake is complete, and then just close.
AFTERWARDS = {("Node.js", "plain"), ("Node.js", "expired"), ("Node.js", "misnamed"), ("curl", "misnamed")}


def told_by(line):
    """The side that portway says has refused, or its outcome, or None if it blames nobody."""
    outcome = line["outcome"]
    if outcome == "handshake_failed":
        assert line["handshake"] == "failed", line
        return line["closed_by"]
    assert line["handshake"] != "failed", line
    return outcome if outcome in ["backend_not_tls", "backend_closed_early"] else None


class Row:
    """What portway told of one kind of failure."""

    def __init__(self):
        self.right, self.all, self.alerts, self.errors = 0, 0, set(), set()


def fails(site, kind, version, client, rows):
    words = {"min": version, "max": version, **kind.words}
    error, line = site.line(client, site.words(kind.server, **words))
    told = told_by(line)
    is_seen = (client, kind.server) not in AFTERWARDS
    assert told == (kind.told if is_seen or kind.told != "client" else None), f"{line}, the client: {error}"
    assert error or not is_seen, f"the client did not fail: {line}"
    is_answered = line["backend_answer"] == "server_hello"
    assert line.get("tls_negotiated") == (version if is_answered else None), line
    if kind.server == "mutual":
        assert line["client_certificate_asked"] is True, line
    row = rows[kind.title, version]
    row.all += 1
    row.right += told == kind.told
    row.alerts |= {line[side] for side in ["backend_alert", "client_alert"] if side in line}
    if client == "Go" and kind.told:
        row.errors.add(shortened(error))


def shortened(error):
    """An error of Go, without what differs from one run to another."""
    error = re.sub(r"(read|write) tcp \S+: ", "", error)
    return re.sub(r"(: current time|certificate is valid for) .*", "", error).rstrip(": ")


def every_failure(checks, site, rows):
    for kind in FAILURES:
        if kind.server not in site.addresses:
            continue
        for version in kind.versions:
            for client in CLIENTS:
                if (client, kind.server) in UNABLE:
                    continue
                name = f"{site.implementation}, {client}, TLS {version}: {kind.title}"
                checks.run(name, fails, site, kind, version, client, rows)


def table(rows):
    lines = ["| what goes wrong | TLS | portway names | alerts in clear | right | a Go client says |",
             "|---|---|---|---|---|---|"]
    for kind in FAILURES:
        for version in kind.versions:
            row = rows[kind.title, version]
            told = {None: "nobody"}.get(kind.told, kind.told)
            told = f"the {told}" if told in ["client", "backend"] else told if told == "nobody" else f"`{told}`"
            alerts = ", ".join(map(str, sorted(row.alerts)))
            errors = ", ".join(f"`{error}`" for error in sorted(row.errors))
            lines.append(f"| {kind.title} | {version} | {told} | {alerts} | {row.right} of {row.all} | {errors} |")
    return "\n".join(lines) + "\n"


def documented(made, write):
    before, rest = DOCUMENT.read_text().split("<!-- begin: tests/clients/handshakes.py -->\n")
    old, after = rest.split("<!-- end -->\n")
    if write:
        DOCUMENT.write_text(f"{before}<!-- begin: tests/clients/handshakes.py -->\n{made}<!-- end -->\n{after}")
        return "written"
    lines = set(made.splitlines()) ^ set(old.splitlines())
    assert made == old, f"docs/handshakes.md differs: {sorted(lines)}"
    return f"{made.count(chr(10)) - 2} rows"


# === healthy connections


class Healthy(NamedTuple):
    """Connections that are well: to a server, with a version, ended in a way."""
    server: str
    version: str
    how: str = "get"
    resumes: bool = False
    # Of a client's healthy connections to a server, one in so many.
    share: int = 4


def healthy_kinds():
    kinds = [Healthy(server, version) for server in ["plain", "mutual"] for version in VERSIONS]
    for version in VERSIONS:
        kinds += [Healthy("plain", version, resumes=True, share=16), Healthy("mutual", version, resumes=True, share=16)]
        for server in ["plain", "mutual", "ticketless", "mutual-ticketless"]:
            kinds += [Healthy(server, version, how, share=16) for how in ["close", "drop", "half"]]
        for server in ["ticketless", "mutual-ticketless"]:
            kinds += [Healthy(server, version, share=16), Healthy(server, version, resumes=True, share=16)]
        # The client's key share is of another group, so the server asks for a second hello.
        kinds += [Healthy("p384", version, share=16)]
        kinds += [Healthy(server, version, share=16) for server in ["closes", "mutual-closes"]]
    return kinds


ASKED = ["Go", "Node.js", "Java", "rustls"]
# Go's client asks for no session ticket here. A server that has accepted its certificate and closes at once has sent no more
# than one that refuses it.
AMBIGUOUS = {("Go", "mutual-closes", "1.3")}


def is_able(client, kind):
    if (client, kind.server, kind.version) in AMBIGUOUS:
        return False
    if kind.resumes:
        return client in ["Python", *ASKED]
    if kind.how == "get":
        return True
    if kind.how == "close":
        return client != "curl"
    return client in ASKED


def is_well(site, client, kind, count, counts):
    before = site.failed()
    words = {"min": kind.version, "max": kind.version, "how": kind.how, "count": count}
    if kind.resumes:
        words["resume"] = ""
    mutual = kind.server.startswith("mutual")
    if mutual:
        words["cert"] = "agent"
    answers = not kind.server.endswith("closes")
    if answers:
        error = site.clients[client](site.words(kind.server, **words))
        assert not error, error
    else:
        # The client may find a connection that is closed, and would not go on.
        for _ in range(count):
            site.clients[client](site.words(kind.server, **{**words, "count": 1}))
    results = defaultdict(int)
    for line in site.lines(count):
        if "suppressed" in line:
            continue
        assert line["outcome"] in ["closed", "client_reset", "backend_reset"], line
        # Node.js does not even send its last flight if it drops the connection.
        may_abandon = not answers or kind.how == "drop"
        assert line["handshake"] == "completed" or (may_abandon and line["handshake"] == "abandoned"), line
        assert line["tls_negotiated"] == kind.version, line
        # A session that is resumed, and a client that went away, show nothing of it.
        asked = line.get("client_certificate_asked")
        assert asked == mutual or (not asked and (kind.resumes or line["handshake"] == "abandoned")), line
        results[line["outcome"], line["handshake"]] += 1
    # Also those whose lines the log has left out.
    assert site.failed() == before, f"{site.failed() - before} failed"
    counts[client] += count
    return dict(results)


def every_healthy(checks, site, counts):
    for kind in healthy_kinds():
        if kind.server not in site.addresses:
            continue
        for client in CLIENTS:
            if not is_able(client, kind):
                continue
            count = max(1, HANDSHAKES // len(SERVERS) // kind.share)
            name = f"{site.implementation}, {client}: {count} of {kind}"
            checks.run(name, is_well, site, client, kind, count, counts)


def new_hello(version):
    """A hello of its own for each connection: portway takes equal ones for a loop."""
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = SSL_VERSIONS[version]
    sent = ssl.MemoryBIO()
    half = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host("plain"))
    with suppress(ssl.SSLWantReadError):
        half.do_handshake()
    return sent.read()


def cancels(site, version, after, by_reset, counts):
    """A client goes away in the handshake, as one does whose dial is cancelled."""
    before = site.failed()
    count = max(1, HANDSHAKES // 40)
    for _ in range(count):
        hello = new_hello(version)
        with socket.create_connection(("127.0.0.1", int(site.port)), PATIENCE) as client:
            client.sendall(hello)
            if after == "answer":
                client.recv(1)
            if by_reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if after == "half":
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
    results = defaultdict(int)
    for line in site.lines(count):
        if "suppressed" not in line:
            # A client that resets early may leave before there is a backend.
            assert line.get("handshake", "abandoned") == "abandoned", line
        assert line["outcome"] in ["closed", "client_reset", "backend_reset", "backend_closed_early"], line
        results[line["outcome"]] += 1
    assert site.failed() == before, f"{site.failed() - before} failed"
    counts["cancelled"] += count
    return dict(results)


def every_cancel(checks, site, counts):
    for version in VERSIONS:
        for after in ["hello", "answer", "half"]:
            for by_reset in [False] if after == "half" else [False, True]:
                checks.run(f"{site.implementation}, TLS {version}: cancelled behind the {after}, {by_reset}", cancels,
                           site, version, after, by_reset, counts)


def early_data(portway, directory):
    """A session is resumed with data in the first flight."""
    with ExitStack() as stack:
        server = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:0", "-early_data",
                                   "-cert", directory / "server.crt", "-key", directory / "server.key"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        stack.callback(stop, server, server.terminate)
        address = next(line for line in server.stdout if line.startswith("ACCEPT")).split()[1]
        threading.Thread(target=server.stdout.read, daemon=True).start()
        place = directory / "early"
        place.mkdir()
        (place / "routes.toml").write_text(routes_toml({"early": address}))
        relay = stack.enter_context(Portway(portway, place))
        # Into a pipe, s_client writes nothing before it ends, and so not that it has got a ticket.
        command = ["stdbuf", "-oL", "openssl", "s_client", "-connect", "{}:{}".format(*relay.addresses["agents"]),
                   "-servername", host("early"), "-CAfile", directory / "ca.crt"]
        session = directory / "session"
        (directory / "data").write_text("early data")

        def connect(*flags):
            client = subprocess.Popen([*command, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
            watchdog = threading.Timer(PATIENCE, client.kill)
            watchdog.start()
            said = []
            for line in client.stdout:
                said.append(line)
                if "Session Ticket arrived" in line:
                    client.stdin.close()
            client.wait()
            watchdog.cancel()
            return "".join(said)

        connect("-sess_out", session)
        for _ in range(5):
            said = connect("-sess_in", session, "-sess_out", session, "-early_data", directory / "data")
            assert "Early data was accepted" in said, said
        relay.settled()
        lines = [json.loads(line) for line in relay.log.read_text().splitlines()]
        assert len(lines) == 6, lines
        for line in lines:
            assert (line["outcome"], line["handshake"]) == ("closed", "completed"), line
            assert line["client_certificate_asked"] is False, line
    return "5 with early data"


# === all


def main(portway, directory, programs, *flags):
    make_certificates(directory)
    programs = dict(zip(["Go", "Java", "rustls"], map(str.split, programs.split(";"))))
    checks, rows, counts = Quiet(), defaultdict(Row), defaultdict(int)

    def all_of(implementation):
        with ExitStack() as stack:
            site = Site(stack, portway, implementation, programs, directory)
            every_failure(checks, site, rows)
            every_healthy(checks, site, counts)
            every_cancel(checks, site, counts)

    with ThreadPoolExecutor(len(SERVERS)) as threads:
        list(threads.map(all_of, SERVERS))
    checks.run("OpenSSL: early data", early_data, portway, directory)
    checks.run("docs/handshakes.md", documented, table(rows), "--write" in flags)
    print(f"failures: {sum(row.right for row in rows.values())} of {sum(row.all for row in rows.values())} as they were; "
          f"healthy: {dict(counts)}", flush=True)
    return checks.summary()


class Quiet(Checks):
    """Checks of several threads, of which only those that fail are shown."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def run(self, name, check, *arguments):
        try:
            check(*arguments)
        except Exception as error:
            with self.lock:
                self.failed += 1
                print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
            for site in arguments:
                if isinstance(site, Site):
                    site.skip()
        else:
            with self.lock:
                self.passed += 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
