"""Sends the client hello of a browser: BoringSSL with its settings (PyPI curl_cffi)."""

import sys

from curl_cffi import CurlOpt, requests

browser, port = sys.argv[1:]
session = requests.Session(
    impersonate=browser,
    curl_options={CurlOpt.RESOLVE: [f"fleet.example.com:{port}:127.0.0.1"]},
)
session.get(f"https://fleet.example.com:{port}/", timeout=20)
