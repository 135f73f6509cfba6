"""A portway with one live and one dead backend, and TLS clients that use it."""

import functools
import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

ROUTES = """
[admin]
bind = "127.0.0.1:0"

[listeners.agents]
bind = ["127.0.0.1:0"]

[backends.fleet]
endpoints = [{{ address = "127.0.0.1:{live}", weight = 1 }}]
health = {{ check = "tls", server_name = "fleet.example.com", interval = "2s", timeout = "2s" }}

[backends.elasticsearch]
endpoints = ["localhost:{dead}"]

[routes.fleet]
server_names = ["fleet.example.com"]
backend = "fleet"

[routes.elasticsearch]
server_names = ["es.example.com"]
backend = "elasticsearch"
"""
# A server sends a client that says this as much as it takes.
FLOOD = b"flood"


class Load:
    """Runs portway and the live backend until `stop`."""

    def __init__(self, portway, work):
        self.live = Server(work)
        self.dead = refusing()
        routes = ROUTES.format(live=self.live.port, dead=port_of(self.dead))
        self.portway = Portway(portway, Path(work) / "edge-1", routes)
        self.admin = self.portway.admin

    def connect(self, name):
        """Makes one connection. Returns whether the backend answered."""
        return self.portway.connect(name)

    def stop(self):
        self.portway.stop()


class Portway:
    """A process with its file and its log in a directory of its own."""

    def __init__(self, program, directory, routes, stdout=subprocess.DEVNULL):
        directory.mkdir()
        self.routes = directory / "routes.toml"
        self.routes.write_text(routes)
        self.command = [program, "run", "--config", self.routes]
        self.log = directory / "portway.log"
        self.stdout = stdout
        self.processes = []
        self._start(self.command)
        self.admin = self._address("admin listening")

    def _start(self, command):
        log = self.log.open("a")
        self.processes.append(subprocess.Popen(command, stdout=self.stdout, stderr=log))

    @property
    def pid(self):
        return self.processes[-1].pid

    def take_over(self):
        """Starts a process that takes the listeners over. Its log is the end of the same file."""
        self._start([*self.command, "--takeover"])

    def reload(self, routes):
        self.routes.write_text(routes)
        self.processes[-1].send_signal(signal.SIGHUP)

    @functools.cache
    def listener(self, name="agents"):
        return self._address("listening", listener=name)

    def _address(self, message, **fields):
        """The address that portway has logged with a message."""
        deadline = time.monotonic() + 10
        wanted = {"message": message, **fields}.items()
        while time.monotonic() < deadline:
            # The last line may not be whole.
            for line in self.log.read_text().split("\n")[:-1]:
                logged = json.loads(line)["fields"]
                if wanted <= logged.items():
                    host, port = logged["address"].rsplit(":", 1)
                    return host, int(port)
            time.sleep(0.1)
        raise SystemExit(f"portway does not say {dict(wanted)}:\n{self.log.read_text()}")

    def open(self, name, listener="agents"):
        """A TLS connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(self.listener(listener), timeout=10)
        try:
            return context.wrap_socket(plain, server_hostname=name)
        except OSError:
            plain.close()
            raise

    def connect(self, name):
        """Makes one connection. Returns whether the backend answered."""
        try:
            with self.open(name) as connection:
                connection.sendall(b"hello")
                return connection.recv(5) == b"hello"
        except OSError:
            return False

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


class Server:
    """A TLS server on loopback that sends back what it receives."""

    def __init__(self, work):
        certificate, key = Path(work) / "certificate.pem", Path(work) / "key.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=fleet -addext subjectAltName=DNS:fleet.example.com"
        if not certificate.exists():
            subprocess.run([*command.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.port = serve(self.answer)

    def answer(self, plain):
        with self.context.wrap_socket(plain, server_side=True) as connection:
            while data := connection.recv(4096):
                while data == FLOOD:
                    connection.sendall(bytes(1 << 20))
                connection.sendall(data)


def serve(answer, host="127.0.0.1", port=0):
    """Has a thread answer each connection, until the process ends. Returns the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, port), family=family, backlog=128)

    def one(plain):
        with plain:
            try:
                answer(plain)
            except OSError:
                pass

    def accept():
        while True:
            plain, _ = server.accept()
            threading.Thread(target=one, args=(plain,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return port_of(server)


def refusing():
    """A socket that is bound and does not listen: it refuses connections, and no other process gets the port."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def port_of(bound):
    return bound.getsockname()[1]
