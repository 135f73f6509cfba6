"""A portway with one live and one dead backend, and TLS clients that use it."""

import json
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
endpoints = ["127.0.0.1:{live}"]
health = {{ check = "tcp" }}

[backends.elasticsearch]
endpoints = ["localhost:{dead}"]

[routes.fleet]
server_names = ["fleet.example.com"]
backend = "fleet"

[routes.elasticsearch]
server_names = ["es.example.com"]
backend = "elasticsearch"
"""


class Load:
    """Runs portway and the live backend until `stop`."""

    def __init__(self, portway, work):
        self.work = Path(work)
        server = self._serve()
        # Bound and not listening: it refuses connections, and no other process gets the port.
        self.dead = socket.socket()
        self.dead.bind(("127.0.0.1", 0))
        routes = self.work / "routes.toml"
        live, dead = server.getsockname()[1], self.dead.getsockname()[1]
        routes.write_text(ROUTES.format(live=live, dead=dead))
        self.log = self.work / "portway.log"
        self.process = subprocess.Popen(
            [portway, "run", "--config", routes],
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("w"),
        )
        self.admin = self._address("admin listening")
        self.listener = self._address("listening")

    def _serve(self):
        """A TLS server that sends back what it receives."""
        certificate, key = self.work / "certificate.pem", self.work / "key.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=fleet"
        subprocess.run(
            [*command.split(), "-out", certificate, "-keyout", key],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = socket.create_server(("127.0.0.1", 0), backlog=128)

        def answer(plain):
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    while data := connection.recv(4096):
                        connection.sendall(data)
            except OSError:
                plain.close()

        def accept():
            while True:
                plain, _ = server.accept()
                threading.Thread(target=answer, args=(plain,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return server

    def _address(self, message):
        """The address that portway has logged with a message."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            # The last line may not be whole.
            for line in self.log.read_text().split("\n")[:-1]:
                fields = json.loads(line)["fields"]
                if fields.get("message") == message:
                    host, port = fields["address"].rsplit(":", 1)
                    return host, int(port)
            time.sleep(0.1)
        raise SystemExit(f"portway does not say {message!r}:\n{self.log.read_text()}")

    def connect(self, name):
        """Makes one connection. Returns whether the backend answered."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with socket.create_connection(self.listener, timeout=10) as plain:
                with context.wrap_socket(plain, server_hostname=name) as connection:
                    connection.sendall(b"hello")
                    return connection.recv(5) == b"hello"
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
