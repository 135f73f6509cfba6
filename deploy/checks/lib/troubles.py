"""A second portway, at which everything goes wrong that a panel of the dashboard shows.

The check `prometheus` causes it again and again until Prometheus has seen all of it.
"""

import contextlib
import os
import resource
import socket
import struct
import threading
import time
from pathlib import Path

import dns
from load import FLOOD, Portway, Server, port_of, refusing, serve

ROUTES = """
[admin]
bind = "127.0.0.1:{admin}"

[listeners.agents]
bind = ["127.0.0.1:{agents}"]

[listeners.balanced]
bind = ["127.0.0.1:{balanced}"]
proxy_protocol = {{ trusted = ["127.0.0.0/8"] }}

[limits]
max_connections_per_client = 60

[backends.fleet]
endpoints = [
    {{ address = "127.0.0.1:{live}", weight = 2 }},
    {{ address = "127.0.0.1:{dead}", backup = true }},
]

[backends.checked]
endpoints = ["127.0.0.1:{live}", "127.0.0.1:{dead}"]
health = {{ check = "tcp", interval = "10s" }}

[backends.elasticsearch]
endpoints = ["localhost:{dead}"]

[backends.rude]
endpoints = ["127.0.0.1:{rude}"]

[backends.looped]
endpoints = ["127.0.0.1:{loop}"]

[backends.named]
endpoints = ["four.test:{four}", "six.test:{six}", "nobody.test:1"]
resolver = {{ servers = ["127.0.0.1:{dns}"] }}

[routes.fleet]
server_names = ["fleet.example.com"]
backend = "fleet"

[routes.checked]
server_names = ["checked.example.com"]
backend = "checked"

[routes.elasticsearch]
server_names = ["es.example.com"]
backend = "elasticsearch"

[routes.rude]
server_names = ["rude.example.com"]
backend = "rude"

[routes.looped]
server_names = ["looped.example.com"]
backend = "looped"

[routes.named]
server_names = ["named.example.com"]
backend = "named"
"""


class Troubles:
    """Runs this portway and its servers until `stop`."""

    def __init__(self, portway, work):
        self.live = Server(work)
        self.dead = refusing()
        self.kept = []
        self.dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.dns.bind(("127.0.0.1", 0))
        known = {"four.test": ["127.0.0.1", "::1"], "six.test": ["127.0.0.1", "::1"]}
        threading.Thread(target=dns.serve, args=(self.dns, known), daemon=True).start()
        # One family of each name answers and the other one is silent. The resolver decides which one comes first.
        four, six = self._half_silent("127.0.0.1", "::1"), self._half_silent("::1", "127.0.0.1")
        ports = {"live": self.live.port, "dead": port_of(self.dead), "rude": serve(reset), "loop": serve(self._back)}
        # A successor takes over what has the same address: 0 would be another port.
        ports |= dict(zip(("admin", "agents", "balanced"), free(3)))
        self.text = ROUTES.format(**ports, four=four, six=six, dns=port_of(self.dns))
        # Lines cannot be written there, and are lost.
        self.portway = Portway(portway, Path(work) / "edge-2", self.text, stdout=open("/dev/full", "w"))
        self.admin = self.portway.admin

    def cause(self):
        """Causes everything once, which takes some seconds."""
        self._take_descriptors()
        self._refuse()
        self._fail()
        self._stall()
        self._reload()
        if len(self.portway.processes) == 1:
            self.portway.take_over()

    def stop(self):
        self.portway.stop()

    def _half_silent(self, live, silent):
        """A port that answers at one of the addresses and not at the other one."""
        while True:
            kept = fill(silent)
            try:
                port = serve(self.live.answer, live, port_of(kept[0]))
            except OSError:
                # Somebody else has the port at that address.
                continue
            self.kept += kept
            return port

    def _back(self, plain):
        """Sends what comes to the endpoint back to portway, as a DNAT rule may."""
        with socket.create_connection(self.portway.listener(), timeout=5) as back:
            threading.Thread(target=pass_on, args=(back, plain), daemon=True).start()
            pass_on(plain, back)

    def _take_descriptors(self):
        """Takes nearly all descriptors while a large transfer wants pipes, and clients want to be accepted."""
        flooded = self.portway.open("fleet.example.com")
        limit = resource.prlimit(self.portway.pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{self.portway.pid}/fd"))
        resource.prlimit(self.portway.pid, resource.RLIMIT_NOFILE, (used + 10, limit[1]))
        waiting = [socket.create_connection(self.portway.listener()) for _ in range(30)]
        drink(flooded)
        # Prometheus comes once per second.
        time.sleep(3)
        resource.prlimit(self.portway.pid, resource.RLIMIT_NOFILE, limit)
        for client in [flooded, *waiting]:
            client.close()

    def _refuse(self):
        """Clients without a route, without TLS, over a limit, and a balancer that sends no PROXY header."""
        for _ in range(15):
            self.portway.connect("nobody.example.com")
            self._say(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(OSError):
            self.portway.open("fleet.example.com", "balanced")
        many = [socket.create_connection(self.portway.listener(), source_address=("127.0.0.2", 0)) for _ in range(70)]
        time.sleep(1)
        for client in many:
            client.close()

    def _fail(self):
        """Endpoints that refuse, reset, lead back, or do not resolve."""
        for _ in range(5):
            for name in ("fleet", "checked", "es", "rude", "looped", "named"):
                self.portway.connect(f"{name}.example.com")

    def _stall(self):
        """A client that does not read. It and another one stay open over the takeover."""
        stalled, held = self.portway.open("fleet.example.com"), self.portway.open("checked.example.com")
        drink(held)
        stalled.sendall(FLOOD)
        self.kept += [stalled, held]
        time.sleep(4)

    def _reload(self):
        for text in ("no TOML", f"{self.text}\n# {time.monotonic()}\n"):
            self.portway.reload(text)
            time.sleep(2)

    def _say(self, text):
        """Sends it without TLS, and waits for the end."""
        with contextlib.suppress(OSError), socket.create_connection(self.portway.listener(), timeout=5) as plain:
            plain.sendall(text)
            while plain.recv(4096):
                pass


def drink(connection):
    """Reads 64 MiB of a flood: portway has the kernel move most of it."""
    connection.sendall(FLOOD)
    missing = 64 << 20
    while missing > 0 and (data := connection.recv(1 << 16)):
        missing -= len(data)


def reset(plain):
    """Answers half of a hello, and resets the connection."""
    plain.recv(4096)
    plain.sendall(b"\x16\x03\x03\x00\x7a")
    time.sleep(0.1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def pass_on(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def free(count):
    """Ports that nobody has now."""
    with contextlib.ExitStack() as bound:
        return [port_of(bound.enter_context(socket.create_server(("127.0.0.1", 0)))) for _ in range(count)]


def fill(host):
    """Makes a socket that answers no connection, because its queue is full. Returns it and the clients in the queue."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    silent = socket.socket(family)
    silent.bind((host, 0))
    silent.listen(0)
    kept = [silent]
    # There is room for one or two, as the kernel counts.
    for _ in range(4):
        client = socket.socket(family)
        client.setblocking(False)
        client.connect_ex((host, port_of(silent)))
        kept.append(client)
    return kept
