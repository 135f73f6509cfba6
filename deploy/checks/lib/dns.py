"""A DNS server on port 53 that knows a few names: dns.py ADDRESS NAME... They resolve to 127.0.0.1."""

import ipaddress
import socket
import struct
import sys

# Record types, by the version of the address.
TYPES = {4: 1, 6: 28}


def question(query):
    """The name in the question, the type, and the question as it came."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return ".".join(labels).lower(), kind, query[12 : at + 5]


def answer(query, known):
    """The reply for names with lists of addresses."""
    name, kind, asked = question(query)
    addresses = [ipaddress.ip_address(it) for it in known.get(name, [])]
    found = [it.packed for it in addresses if TYPES[it.version] == kind]
    # A known name without an address of this type gets an empty answer; other names do not exist.
    flags = 0x8580 if name in known else 0x8583
    reply = query[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0) + asked
    for packed in found:
        reply += struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(packed)) + packed
    return reply


def serve(server, known):
    while True:
        query, client = server.recvfrom(512)
        server.sendto(answer(query, known), client)


if __name__ == "__main__":
    address, *names = sys.argv[1:]
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((address, 53))
    serve(bound, {name: ["127.0.0.1"] for name in names})
