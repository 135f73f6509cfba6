"""Runs real clients through portway, and checks what the servers behind it saw of them.

`run` starts it, after installing what it needs. It prints a line for each check, then
`N passed, N failed`; the exit status is 1 if one failed.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path

from elasticsearch import Elasticsearch, TransportError, helpers

CHURN = 1000
DOCUMENTS = 2000
SERVERS = ["fleet", "es", "mutual-fleet", "mutual-es"]
LOGSTASHES = ["logstash", "mutual-logstash"]
# A proxy that clients reach by HTTPS, and that leads to the other servers.
SECURE_PROXY = "mutual-proxy"
PATIENCE = 30
AGENTS = 16
LOGIN = "agent-7:right horse"
# As `htpasswd -nbB agent-7 "right horse"` prints it.
USERS = "agent-7:$2y$05$DCq7YPn5Rq63x1Lad4cll.HBDohiHssWWTvAkR0t7BcDSKBnDJsfK\n"


def main(portway, peer, directory):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(1))
    make_certificates(directory)
    checks = Checks()
    with ExitStack() as stack:
        backends = stack.enter_context(Backends(peer, directory))
        write_files(directory, routes_toml(backends.addresses))
        relay = stack.enter_context(Portway(portway, directory))
        clients = Clients(peer, directory, relay.addresses, backends.addresses["fleet"])
        for server in SERVERS:
            for client in [clients.curl, clients.openssl, clients.gnutls, clients.go]:
                checks.run(f"{client.__name__}: {server}", reaches, client, server)
        checks.run("go, HTTP/2: mutual-fleet", reaches_by_http2, clients)
        checks.run("go, TLS 1.2: mutual-fleet", reaches_by_tls12, clients)
        for server in ["es", "mutual-es"]:
            checks.run(f"elasticsearch: {server}", bulk, clients, server)
            checks.run(f"elasticsearch for Node.js: {server}", node_bulk, clients, server)
        for server in LOGSTASHES:
            checks.run(f"lumberjack: {server}", ship, clients, server)

        for client, words in [
            (clients.curl, "unrecognized name"),
            (clients.openssl, "unrecognized name"),
            (clients.gnutls, "server name"),
            (clients.go, GO["unrecognized_name"]),
            (clients.elasticsearch, "UNRECOGNIZED_NAME"),
            (clients.node_elasticsearch, "tlsv1 unrecognized name"),
        ]:
            checks.run(f"{client.__name__}: an unknown name", fails, words, client, "unknown")
        checks.run("lumberjack: no certificate", fails, "certificate required", clients.lumberjack,
                   "mutual-logstash", with_certificate=False)
        checks.run("go: a backend that is gone", fails, GO["internal_error"], clients.go, "gone")
        checks.run("go: an IP address in the URL", fails, GO["missing_extension"],
                   clients.go, "fleet", "-server-name", "127.0.0.1")
        checks.run("go: a client that a route excludes", fails, GO["access_denied"],
                   clients.go, "denied")
        checks.run("go: portway is not its proxy", fails, GO["not_a_proxy"], clients.go, "fleet",
                   "-proxy", "http")
        through_proxies(checks, clients)
        too_many_logins(checks, portway, peer, directory, backends)
        for server in ["fleet", "mutual-fleet"]:
            checks.run(f"go, {AGENTS} agents over a takeover: {server}", notice_nothing, portway, peer,
                       directory, backends, server)
        checks.run("go: every text of go_errors.txt has come", every_text, GO)
        for certificate, words in BAD_CERTIFICATES.items():
            for flags in [[], ["-tls12"]]:
                what = " ".join(["go: the server's alert:", certificate or "no certificate", *flags])
                checks.run(what, fails, words, clients.go, "mutual-es", *flags,
                           certificate=certificate)

        checks.run(f"go: {CHURN} connections, used and closed", churn, clients, relay)
        checks.run("promtool check metrics", promtool, clients, relay)
        checks.run("accepted = active + closed", adds_up, relay)
        checks.run("SIGTERM: drained, and a log line for each connection", ends, relay)
    return checks.summary()


def through_proxies(checks, clients):
    """Clients with a proxy setting, at the listeners that are proxies."""
    for proxy in ["http", "socks5"]:
        for server in SERVERS:
            for client in [clients.curl, clients.go_through]:
                checks.run(f"{client.__name__}, {proxy} proxy: {server}", reaches, client, server,
                           proxy)
        checks.run(f"go, HTTP/2, {proxy} proxy: mutual-fleet", reaches_by_http2, clients, proxy)
        checks.run(f"go, {proxy} proxy: another server name", fails, GO["access_denied"],
                   clients.go_through, "fleet", proxy, "-server-name", host("es"))
        checks.run(f"go, {proxy} proxy: a backend that is gone", fails, GO["internal_error"],
                   clients.go_through, "gone", proxy)
        # The route of this address is for HTTP/2 only, as portway learns when the tunnel is open.
        checks.run(f"go, {proxy} proxy: an IP address in the URL", fails, GO["missing_extension"],
                   clients.go_to_address, proxy)
    for server in SERVERS:
        checks.run(f"curl, HTTPS proxy behind the socks5 proxy: {server}", reaches,
                   clients.curl_preproxy, server)
    checks.run("curl, an unknown HTTPS proxy behind the socks5 proxy", fails,
               r"SOCKS5 connection to unknown.example.com. \(2\)", clients.curl_preproxy, "fleet",
               secure_proxy="unknown")
    for server in ["es", "mutual-es"]:
        checks.run(f"elasticsearch, http proxy: {server}", bulk, clients, server, "http")
        checks.run(f"elasticsearch for Node.js, http proxy: {server}", node_bulk, clients, server,
                   "http")
    for client, proxy, words in [
        (clients.go_through, "http", GO["no_route"]),
        (clients.go_through, "socks5", GO["socks_no_route"]),
        (clients.curl, "http", "CONNECT tunnel failed, response 403"),
        (clients.curl, "socks5", r"SOCKS5 connection to unknown.example.com. \(2\)"),
    ]:
        checks.run(f"{client.__name__}, {proxy} proxy: an unknown name", fails, words, client,
                   "unknown", proxy)
    checks.run("go, http proxy: a request of over 16 KiB", fails, GO["too_large"],
               clients.go_through, "fleet", "http", "-proxy-field", "20000")
    checks.run("go, http proxy: a client that a route excludes", fails, GO["client_denied"],
               clients.go_through, "denied", "http")
    lumberjack_behind_socks5(checks, clients)
    with_logins(checks, clients)
    checks.run("go, http proxy: a URL without TLS", fails, GO["plain_url"],
               clients.go_through, "fleet", "http", "-plain")
    checks.run("go: an https:// URL of the proxy", fails, GO["https_proxy"], clients.go_through,
               "fleet", "https")


def lumberjack_behind_socks5(checks, clients):
    """Logstash outputs use SOCKS5 proxies only."""
    for server in LOGSTASHES:
        checks.run(f"lumberjack, socks5 proxy: {server}", ship, clients, server, "socks5")
        checks.run(f"lumberjack, socks5 proxy with users: {server}", ship, clients, server, "socks5", LOGIN)
    checks.run("lumberjack, socks5 proxy: no certificate", fails, "certificate required",
               clients.lumberjack, "mutual-logstash", "socks5", with_certificate=False)
    for words, proxy in [("(?i)not ?allowed", ["unknown", "socks5"]),
                         ("(?i)authentication failed", ["logstash", "socks5", LOGIN + "x"]),
                         ("(?i)no accepted authentication", ["logstash", "socks5", ""])]:
        checks.run(f"lumberjack: {' '.join(proxy)}: refused", fails, words, clients.lumberjack, *proxy)


def too_many_logins(checks, portway, peer, directory, backends):
    """More clients than portway makes wait for the check of their passwords. Each check takes long."""
    busy = directory / "busy"
    write_files(busy, routes_toml(backends.addresses), USERS.replace("$05$", "$12$"))
    with Portway(portway, busy) as relay:
        clients = Clients(peer, directory, relay.addresses, backends.addresses["fleet"])
        checks.run("go, http proxy with users: too many passwords", told_to_wait, clients)


def notice_nothing(portway, peer, directory, backends, server):
    """While another portway takes over, each check-in is answered, and the next one reaches the new process."""
    place = directory / f"takeover-{server}"
    # A successor must find the same addresses in the file.
    write_files(place, routes_toml(backends.addresses, iter(free_addresses(6)).__next__))
    with ExitStack() as stack:
        old = stack.enter_context(Portway(portway, place))
        agents = subprocess.Popen([peer, "agents", "-ca", directory / "ca.crt", "-cert", directory / "agent",
                                   "-connections", str(AGENTS), "-hold", "8s",
                                   "{}:{}".format(*old.addresses["agents"]), host(server)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.callback(stop, agents, agents.stdin.close)
        old.wait_active(AGENTS)
        new = stack.enter_context(Portway(portway, place, "--takeover"))
        status = old.process.wait(4 * PATIENCE)
        assert status == 0, f"exit status {status}"
        # Each agent has a check-in there by now, or is about to send one.
        new.wait_active(AGENTS)
        agents.stdin.close()
        result = json.loads(agents.stdout.read())
    assert result["errors"] == {}, result
    lines = [json.loads(line) for line in old.log.read_text().splitlines()]
    ends = [(line["outcome"], line["closed_by"], line.get("detail")) for line in lines]
    assert ends == [("drained", "portway", None)] * AGENTS, ends
    assert result["connections"] == 2 * AGENTS, result
    return f"{result['answered']} check-ins on {result['connections']} connections"


def told_to_wait(clients):
    for attempt in range(50):
        with ExitStack() as waiting:
            clients.wait_for_checks(waiting, attempt)
            try:
                return fails(GO["too_many_logins"], clients.go_through, "fleet", "http", LOGIN + "x")
            except AssertionError as error:
                # One of those that wait may have had its answer before this client came.
                last = error
    raise last


def with_logins(checks, clients):
    """Clients of the listeners that ask for a user and a password."""
    for client, proxy, missing, wrong in [
        (clients.go_through, "http", GO["no_login"], GO["wrong_login"]),
        (clients.go_through, "socks5", GO["socks_no_login"], GO["socks_wrong_login"]),
        (clients.curl, "http", "CONNECT tunnel failed, response 407",
         "CONNECT tunnel failed, response 407"),
        (clients.curl, "socks5", CURL_MISSING, CURL_WRONG),
    ]:
        what = f"{client.__name__}, {proxy} proxy with users"
        checks.run(f"{what}: the right password", reaches, client, "fleet", proxy, LOGIN)
        checks.run(f"{what}: a wrong password", fails, wrong, client, "fleet", proxy, LOGIN + "x")
        checks.run(f"{what}: no password", fails, missing, client, "fleet", proxy, "")
    what = "curl, HTTPS proxy behind the socks5 proxy with users"
    checks.run(f"{what}: the right password", reaches, clients.curl_preproxy, "fleet", LOGIN)
    checks.run(f"{what}: a wrong password", fails, CURL_WRONG, clients.curl_preproxy, "fleet",
               LOGIN + "x")
    checks.run(f"{what}: no password", fails, CURL_MISSING, clients.curl_preproxy, "fleet", "")


# How curl reports a SOCKS5 proxy that refuses its users.
CURL_MISSING = "(?i)no acceptable|no authentication method"
CURL_WRONG = "(?i)user was rejected"

# How Go reports the alert of a Go server: without a certificate it depends on the version.
BAD_CERTIFICATES = {
    None: "remote error: tls: (certificate required|bad certificate|handshake failure)",
    "stranger": "remote error: tls: (unknown certificate authority|bad certificate)",
}


class Texts(dict):
    """The texts of a file as patterns, and which of them were asked for."""

    def __init__(self, file):
        lines = [line.split(maxsplit=1) for line in file.read_text().splitlines()]
        super().__init__((name, re.escape(text)) for name, text in lines if name != "#")
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)


# How Go shows what portway answers: the texts that docs/elastic quotes.
GO = Texts(Path(__file__).parent / "go_errors.txt")


class Checks:
    """Runs checks. Each returns what to show, or raises."""

    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, check, *arguments, **options):
        try:
            detail = check(*arguments, **options)
            self.passed += 1
            print(f"ok    {name}: {detail}", flush=True)
        except Exception as error:
            self.failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)

    def summary(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


# === checks


def reaches(client, server, *arguments):
    """The client reaches the server that it asked for, with its certificate if the server wants one."""
    return expect(client(server, *arguments), server)


def expect(body, server, **more):
    seen = json.loads(body)["seen"]
    expected = {
        "server": server,
        "server_name": host(server),
        "client": "agent" if server.startswith("mutual-") else "",
        "tls": "TLS 1.3",
        **more,
    }
    wrong = {key: seen[key] for key, value in expected.items() if seen[key] != value}
    assert not wrong, f"the server saw {wrong}"
    return ", ".join(filter(None, seen.values()))


def reaches_by_http2(clients, proxy=None):
    body = clients.go_through("mutual-fleet", proxy, "-http2")
    return expect(body, "mutual-fleet", protocol="HTTP/2.0")


def reaches_by_tls12(clients):
    return expect(clients.go("mutual-fleet", "-tls12"), "mutual-fleet", tls="TLS 1.2")


def bulk(clients, server, proxy=None):
    """The Python client asks which server answers, and sends bulk data."""
    with clients.open_elasticsearch(server, proxy) as client:
        detail = expect(json.dumps(client.info().body), server)
        document = {"message": "x" * 1000}
        actions = ({"_index": "logs", "_source": document} for _ in range(DOCUMENTS))
        created, errors = helpers.bulk(client, actions)
    assert (created, errors) == (DOCUMENTS, []), f"{created} created, errors: {errors}"
    return f"{detail}, {created} documents"


def node_bulk(clients, server, proxy=None):
    """The client for Node.js does the same."""
    answer = json.loads(clients.node_elasticsearch(server, proxy))
    detail = expect(json.dumps(answer), server)
    assert answer["documents"] == DOCUMENTS, answer
    return f"{detail}, {DOCUMENTS} documents"


def ship(clients, server, *proxy):
    """A client of Logstash sends a window of events, and the server acknowledges them all."""
    answer = json.loads(clients.lumberjack(server, *proxy))
    assert answer == {"server": server, "acknowledged": DOCUMENTS}, answer
    return f"{server}, {DOCUMENTS} events acknowledged"


def fails(words, client, *arguments, **options):
    """The client fails, and its own message says why."""
    try:
        body = client(*arguments, **options)
    except ClientFailed as failure:
        text = str(failure)
        found = re.search(words, text)
        assert found, f"no {words!r} in {text!r}"
        line = next(line for line in text.splitlines() if found.group() in line)
        return line.strip()
    raise AssertionError(f"it got {body!r}")


def every_text(texts):
    assert texts.asked == set(texts), f"no client showed {set(texts) - texts.asked}"
    return f"{len(texts)} texts"


def churn(clients, relay):
    """Each of many keep-alive connections ends as `closed`: a Go client never ends with a reset."""
    before = relay.settled()
    clients.go("fleet", "-connections", str(CHURN), command="churn")
    after = relay.settled()
    ends = {outcome: after[outcome] - before.get(outcome, 0) for outcome in after}
    ends = {outcome: count for outcome, count in ends.items() if count}
    assert ends == {"closed": CHURN}, f"they ended as {ends}"
    return f"{ends}"


def promtool(clients, relay):
    """promtool finds no fault in a scrape while connections are open."""
    with clients.open_elasticsearch("mutual-es") as client:
        client.info()
        assert relay.active() > 0, "no connection is open"
        scrape = relay.scrape()
    checked = subprocess.run(["promtool", "check", "metrics"], input=scrape, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout
    return f"silent on {len(scrape.splitlines())} lines"


def adds_up(relay):
    outcomes = relay.settled()
    accepted = total(relay.scrape(), "portway_connections_accepted_total")
    assert accepted == sum(outcomes.values()), f"{accepted} accepted, closed as {outcomes}"
    return f"{accepted}, {({name: count for name, count in outcomes.items() if count})}"


def ends(relay):
    accepted = total(relay.scrape(), "portway_connections_accepted_total")
    status = relay.stop()
    assert status == 0, f"exit status {status}"
    lines = [json.loads(line) for line in relay.log.read_text().splitlines()]
    # More than ten a second that were refused for the same reason share a line.
    told = sum(line.get("suppressed", 1) for line in lines if "outcome" in line)
    assert told == accepted, f"{told} connections in {len(lines)} lines, of {accepted}"
    return f"{len(lines)} lines"


# === processes


class Backends:
    """The servers, each on its own port."""

    def __init__(self, peer, directory):
        with open(directory / "backends.log", "wb") as log:
            self.process = subprocess.Popen([peer, "serve", directory, *SERVERS, *LOGSTASHES, SECURE_PROXY],
                                            stderr=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addresses = json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process, self.process.stdin.close)


class Portway:
    """A running portway. Its addresses come from its log, its counts from its metrics page."""

    def __init__(self, program, directory, *flags):
        self.log = directory / f"connections{''.join(flags)}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program, "run", "--config", directory / "routes.toml", *flags],
                                            stdout=log, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            self.addresses, self.admin = self.started()
        except BaseException:
            stop(self.process, self.process.kill)
            raise

    def started(self):
        addresses, admin, said = {}, None, []
        for line in self.process.stderr:
            said.append(line.decode())
            fields = json.loads(line)["fields"]
            if fields["message"] == "listening":
                addresses[fields["listener"]] = split(fields["address"])
            if fields["message"] == "admin listening":
                admin = fields["address"]
            if fields["message"] == "ready":
                # Further output must not fill the pipe.
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return addresses, admin
        raise RuntimeError(f"portway has not started: {''.join(said)}")

    def scrape(self):
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE) as page:
            return page.read().decode()

    def active(self):
        return total(self.scrape(), "portway_connections_active")

    def wait_active(self, count):
        deadline = time.monotonic() + PATIENCE
        while self.active() != count:
            assert time.monotonic() < deadline, f"{self.active()} of {count} connections are open"
            time.sleep(0.02)

    def settled(self):
        """The count of each outcome, once no connection is open."""
        deadline = time.monotonic() + PATIENCE
        while self.active():
            assert time.monotonic() < deadline, f"{self.active()} connections are still open"
            time.sleep(0.02)
        outcomes = {}
        name = "portway_connections_closed_total"
        for outcome, count in re.findall(rf'^{name}{{.*outcome="(\w+)".*}} (\d+)', self.scrape(),
                                         re.MULTILINE):
            outcomes[outcome] = outcomes.get(outcome, 0) + int(count)
        return outcomes

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process, self.process.terminate)


def stop(process, ask):
    """Asks a process to end, and kills it if it does not."""
    if process.poll() is None:
        ask()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def total(scrape, metric):
    return sum(int(count) for count in re.findall(rf"^{metric}{{.*}} (\d+)", scrape, re.MULTILINE))


def split(address):
    ip, port = address.rsplit(":", 1)
    return ip, int(port)


# === clients


class ClientFailed(Exception):
    """The message of a client that failed."""


class Clients:
    """One request by each client. If the server wants a certificate, it is the agent's."""

    def __init__(self, peer, directory, relay, fleet):
        self.peer = peer
        self.directory = directory
        self.ip, self.port = relay["agents"]
        self.proxies = {"http": relay["http"], "https": relay["http"], "socks5": relay["socks5"]}
        self.login_proxies = {proxy: relay[f"{proxy}-login"] for proxy in ["http", "socks5"]}
        self.authority = directory / "ca.crt"
        self.fleet = fleet
        resolve_examples_to(self.ip)

    def curl(self, server, proxy=None, login=None):
        """With a login, also an empty one, through the listener that asks for it."""
        name = host(server)
        command = self.curl_to(server)
        if proxy:
            ip, port = self.proxy(proxy, login)
            flag = {"http": "--proxy", "socks5": "--socks5-hostname"}[proxy]
            if login:
                command += ["--proxy-user", login]
            return self.run([*command, flag, f"{ip}:{port}", f"https://{name}/"])
        return self.run([*command, "--noproxy", "*", "--resolve", f"{name}:{self.port}:{self.ip}",
                         f"https://{name}:{self.port}/"])

    def curl_preproxy(self, server, login=None, secure_proxy=SECURE_PROXY):
        """Through the SOCKS5 listener to an HTTPS proxy, whose name only portway resolves."""
        ip, port = self.proxy("socks5", login)
        user = urllib.parse.quote(login, safe=":") + "@" if login else ""
        return self.run([*self.curl_to(server), "--preproxy", f"socks5h://{user}{ip}:{port}",
                         "--proxy", f"https://{host(secure_proxy)}:443", "--proxy-cacert", self.authority,
                         *self.certificate(SECURE_PROXY, "--proxy-cert", "--proxy-key"),
                         f"https://{host(server)}/"])

    def curl_to(self, server):
        return ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE),
                "--cacert", self.authority, *self.certificate(server, "--cert", "--key")]

    def proxy(self, proxy, login):
        return (self.proxies if login is None else self.login_proxies)[proxy]

    def openssl(self, server):
        name = host(server)
        command = ["openssl", "s_client", "-connect", f"{self.ip}:{self.port}", "-servername", name,
                   "-quiet", "-verify_quiet", "-verify_return_error", "-verify_hostname", name,
                   "-CAfile", self.authority]
        return self.ask([*command, *self.certificate(server, "-cert", "-key")], name)

    def gnutls(self, server):
        name = host(server)
        command = ["gnutls-cli", "--port", str(self.port), "--sni-hostname", name,
                   "--verify-hostname", name, "--x509cafile", self.authority]
        command += self.certificate(server, "--x509certfile", "--x509keyfile")
        return self.ask([*command, self.ip], name)

    def go(self, server, *flags, certificate="agent", command="get", address=None):
        arguments = [self.peer, command, "-ca", self.authority, *flags]
        if certificate:
            arguments += ["-cert", self.directory / certificate]
        return self.run([*arguments, address or f"{self.ip}:{self.port}", host(server)])

    def go_through(self, server, proxy, *flags):
        if not proxy:
            return self.go(server, *flags)
        if flags and not flags[0].startswith("-"):
            ip, port = self.login_proxies[proxy]
            return self.go(server, "-proxy", proxy, "-login", *flags, address=f"{ip}:{port}")
        ip, port = self.proxies[proxy]
        return self.go(server, "-proxy", proxy, *flags, address=f"{ip}:{port}")

    def go_to_address(self, proxy):
        """To the address of a server, which is the host of the URL and no server name."""
        ip, port = self.proxies[proxy]
        return self.run([self.peer, "get", "-ca", self.authority, "-proxy", proxy, "-server-name",
                         "127.0.0.1", f"{ip}:{port}", self.fleet])

    def wait_for_checks(self, stack, attempt):
        """Sends wrong passwords until portway makes no more clients of this address wait."""
        deadline = time.monotonic() + PATIENCE
        for number in range(1000):
            assert time.monotonic() < deadline, "portway makes everybody wait"
            client = stack.enter_context(socket.create_connection(self.login_proxies["http"], PATIENCE))
            login = b64encode(f"agent-7:{attempt}-{number}".encode()).decode()
            name = f"{host('fleet')}:443"
            client.sendall(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n"
                           f"Proxy-Authorization: Basic {login}\r\n\r\n".encode())
            client.settimeout(0.05 if number > 50 else 0.001)
            try:
                if client.recv(12) == b"HTTP/1.1 503":
                    return
            except TimeoutError:
                pass
        raise AssertionError("portway makes everybody wait")

    def node(self, command, server, proxy=None, login=None, with_certificate=True):
        options = {"ip": self.ip, "port": self.port, "name": host(server), "ca": str(self.authority)}
        if server.startswith("mutual-") and with_certificate:
            options |= {"cert": str(self.directory / "agent.crt"), "key": str(self.directory / "agent.key")}
        if proxy:
            ip, port = (self.proxies if login is None else self.login_proxies)[proxy]
            user = urllib.parse.quote(login, safe=":") + "@" if login else ""
            options["proxy"] = f"{proxy}://{user}{ip}:{port}"
        script = Path(__file__).parent / "node" / "client.js"
        modules = {"NODE_PATH": str(self.directory / "node_modules")}
        return self.run(["node", script, command, json.dumps(options)], env=os.environ | modules)

    def node_elasticsearch(self, server, proxy=None):
        return self.node("elasticsearch", server, proxy)

    def lumberjack(self, server, *proxy, **options):
        return self.node("lumberjack", server, *proxy, **options)

    def elasticsearch(self, server):
        with self.open_elasticsearch(server) as client:
            try:
                return client.info()
            except TransportError as error:
                raise ClientFailed("".join(traceback.format_exception(error))) from error

    def open_elasticsearch(self, server, proxy=None):
        certificate = {}
        if server.startswith("mutual-"):
            certificate = {"client_cert": self.directory / "agent.crt",
                           "client_key": self.directory / "agent.key"}
        node = {}
        os.environ.pop("HTTPS_PROXY", None)
        if proxy:
            # This node takes its proxy from the environment, and behind a proxy the authority too.
            node = {"node_class": "requests"}
            os.environ["REQUESTS_CA_BUNDLE"] = str(self.authority)
            os.environ["HTTPS_PROXY"] = "{}://{}:{}".format(proxy, *self.proxies[proxy])
        return Elasticsearch(f"https://{host(server)}:{self.port}", ca_certs=self.authority,
                             max_retries=0, request_timeout=PATIENCE, **certificate, **node)

    def certificate(self, server, cert, key):
        if not server.startswith("mutual-"):
            return []
        return [cert, self.directory / "agent.crt", key, self.directory / "agent.key"]

    def run(self, command, env=None):
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=2 * PATIENCE, env=env)
        if done.returncode:
            raise ClientFailed(done.stderr + done.stdout)
        return done.stdout

    def ask(self, command, name):
        """For clients that only carry bytes: sends a request by hand, and returns the body of the answer.
        Their stdin stays open until the server has closed, because otherwise they would close first."""
        request = f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            process.stdin.write(request)
            process.stdin.flush()
            answer = process.stdout.read()
        except BrokenPipeError:
            answer = process.stdout.read()
        finally:
            watchdog.cancel()
            stop(process, process.terminate)
        body = re.search(r"^{.*}$", answer, re.MULTILINE)
        if not body:
            raise ClientFailed(answer)
        return body.group()


def resolve_examples_to(ip):
    """Resolves all names of example.com to one address in this process, because they have none."""
    system = socket.getaddrinfo

    def getaddrinfo(name, *arguments, **options):
        return system(ip if name.endswith(".example.com") else name, *arguments, **options)

    socket.getaddrinfo = getaddrinfo


# === files


def host(server):
    return f"{server}.example.com"


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = ["{}:{}".format(*each.getsockname()) for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def write_files(directory, routes, users=USERS):
    directory.mkdir(exist_ok=True)
    (directory / "routes.toml").write_text(routes)
    (directory / "users").write_text(users)


def routes_toml(backends, bind=lambda: "127.0.0.1:0"):
    tables = [f'[listeners.agents]\nbind = ["{bind()}"]\n', f'[admin]\nbind = "{bind()}"\n']
    for name, protocol in [("http", "http_connect"), ("socks5", "socks5")]:
        for login in ["", "-login"]:
            tables.append(f'[listeners.{name}{login}]\nbind = ["{bind()}"]\nprotocol = "{protocol}"\n')
            if login:
                tables.append('credentials_file = "users"\n')
    for server, address in backends.items():
        tables.append(f'[backends.{server}]\nendpoints = ["{address}"]\n')
        tables.append(f'[routes.{server}]\nserver_names = ["{host(server)}"]\n'
                      f'backend = "{server}"\n')
    tables.append(f'[backends.address]\nendpoints = ["{backends["fleet"]}"]\n'
                  '[routes.address]\nno_server_name = true\nlisteners = ["http", "socks5"]\nalpn = ["h2"]\n'
                  'backend = "address"\n')
    # Nothing listens at port 1, and no client of these tests is in TEST-NET-3.
    tables.append('[backends.gone]\nendpoints = ["127.0.0.1:1"]\n'
                  f'[routes.gone]\nserver_names = ["{host("gone")}"]\nbackend = "gone"\n'
                  f'[routes.denied]\nserver_names = ["{host("denied")}"]\n'
                  'clients = ["203.0.113.0/24"]\nbackend = "gone"\n')
    return "\n".join(tables)


def make_certificates(directory):
    """Makes an authority, the certificates of the servers and the agent, and a stranger's own."""
    config = directory / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = name\n[name]\n")

    def make(name, *extensions, issuer=None):
        command = ["openssl", "req", "-x509", "-config", config, "-newkey", "rsa:2048", "-nodes",
                   "-days", "2", "-subj", f"/CN={name}", "-out", directory / f"{name}.crt",
                   "-keyout", directory / f"{name}.key"]
        if issuer:
            command += ["-CA", directory / f"{issuer}.crt", "-CAkey", directory / f"{issuer}.key"]
        for extension in [*extensions, "subjectKeyIdentifier=hash",
                          "authorityKeyIdentifier=keyid:always"]:
            command += ["-addext", extension]
        subprocess.run(command, check=True, capture_output=True)

    authority = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"]
    make("ca", *authority)
    make("stranger-ca", *authority)
    for server in [*SERVERS, *LOGSTASHES, SECURE_PROXY]:
        make(server, f"subjectAltName=DNS:{host(server)}", "extendedKeyUsage=serverAuth",
             issuer="ca")
    make("agent", "extendedKeyUsage=clientAuth", issuer="ca")
    make("stranger", "extendedKeyUsage=clientAuth", issuer="stranger-ca")


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
