"""A DNS server on port 53 that knows a few names: dns.py ADDRESS NAME... They resolve to 127.0.0.1."""

import socket
import struct
import sys


def question(query):
    """The name in the question, the type, and the question as it came."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return ".".join(labels).lower(), kind, query[12 : at + 5]


def answer(query, known):
    name, kind, asked = question(query)
    found = name in known and kind == 1
    # A known name without an address of this type gets an empty answer; other names do not exist.
    flags = 0x8580 if name in known else 0x8583
    reply = query[:2] + struct.pack("!HHHHH", flags, 1, found, 0, 0) + asked
    if found:
        reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("127.0.0.1")
    return reply


def main():
    address, *known = sys.argv[1:]
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    while True:
        query, client = server.recvfrom(512)
        server.sendto(answer(query, known), client)


main()
