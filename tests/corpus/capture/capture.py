#!/usr/bin/env python3
"""Saves the client hellos of real clients as ../NAME.bin.

It starts each client with the port of a listener on 127.0.0.1 and the server name fleet.example.com,
saves what the client sends until the hello is whole, and closes the connection.
A client that is not installed is skipped. Run it from anywhere, with the names of the captures
to take, or with none for all:

    capture.py [NAME...]
"""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "fleet.example.com"

# {port} and {name} are filled in.
CLIENTS = {
    "go": ["go", "run", "go/main.go", "{port}"],
    "go_h2": ["go", "run", "go/main.go", "{port}", "alpn"],
    "go_tls12": ["go", "run", "go/main.go", "{port}", "tls12"],
    "go_without_mlkem": ["env", "GODEBUG=tlsmlkem=0", "go", "run", "go/main.go", "{port}"],
    "openssl": ["openssl", "s_client", "-connect", "127.0.0.1:{port}", "-servername", "{name}"],
    "openssl_tls12": ["openssl", "s_client", "-tls1_2", "-connect", "127.0.0.1:{port}",
                      "-servername", "{name}"],
    "curl": ["curl", "-s", "--connect-to", "{name}:443:127.0.0.1:{port}", "https://{name}/"],
    "gnutls": ["gnutls-cli", "--insecure", "--sni-hostname", "{name}", "-p", "{port}",
               "127.0.0.1"],
    "nss": ["tstclnt", "-o", "-D", "-h", "127.0.0.1", "-p", "{port}", "-a", "{name}"],
    "chrome": [sys.executable, "impersonate.py", "chrome", "{port}"],
    "firefox": [sys.executable, "impersonate.py", "firefox", "{port}"],
    "safari": [sys.executable, "impersonate.py", "safari", "{port}"],
    "java": ["java", "Hello.java", "{port}"],
    "python": [sys.executable, "-c",
               "import socket, ssl, sys\n"
               "s = socket.create_connection(('127.0.0.1', {port}))\n"
               "ssl.create_default_context().wrap_socket(s, server_hostname='{name}')"],
    "node": ["node", "-e",
             "require('tls').connect({{host: '127.0.0.1', port: {port}, servername: '{name}'}})"
             ".on('error', () => {{}})"],
}


def whole(data: bytes) -> bool:
    """Whether the hello at the start of these records is complete."""
    message = b""
    while len(data) >= 5:
        length = int.from_bytes(data[3:5], "big")
        message += data[5 : 5 + length]
        data = data[5 + length :]
    return len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big")


def capture(name: str, command: list[str]) -> None:
    if not shutil.which(command[0]):
        print(f"{name}: {command[0]} is not installed")
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(60)
        client = subprocess.Popen(
            [part.format(port=port, name=NAME) for part in command],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                data = b""
                while not whole(data):
                    more = connection.recv(65536)
                    if not more:
                        raise SystemExit(f"{name}: closed after {len(data)} bytes")
                    data += more
        finally:
            client.kill()
            client.wait()
    (HERE.parent / f"{name}.bin").write_bytes(data)
    print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CLIENTS:
        capture(chosen, CLIENTS[chosen])
