"""Which Host and Origin headers are answered: a web page of somebody else must not reach a server on loopback."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server that listens on ``address``."""
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


class Hosts:
    """The names under which the server may be called, and the origins whose pages may call it."""

    def __init__(self, bind: str, allowed: Iterable[str], origins: Iterable[str]) -> None:
        """``allowed``: further names, with or without a port; ``origins``: as browsers send them, or ``*``."""
        names = {*_LOOPBACK, bind.strip("[]")} | {_name_of(name) for name in allowed}
        if not is_loopback(bind):
            names |= {socket.gethostname(), *_own_addresses()}
        self._names = frozenset(name.lower() for name in names)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def allows(self, host: str) -> bool:
        """Whether a Host header is one of this server's names, at any port."""
        return _name_of(host) in self._names

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page from ``origin`` may call a server that it calls ``host``: its own, or one that is configured."""
        try:
            own = urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:  # "http://[" is the origin of nothing
            own = False
        return own or self.cors(origin) is not None

    def cors(self, origin: str) -> str | None:
        """The Access-Control-Allow-Origin for pages from ``origin``; None: they may not read the answers."""
        if "*" in self._origins:
            return "*"
        return origin if origin.lower() in self._origins else None


def _name_of(host: str) -> str:
    """A Host header without its port and without the brackets of an address of IPv6."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host


def _own_addresses() -> set[str]:
    import psutil  # a server on loopback listens sooner without it

    kinds = {socket.AF_INET, socket.AF_INET6}
    interfaces = psutil.net_if_addrs().values()
    return {address.address.partition("%")[0] for each in interfaces for address in each if address.family in kinds}
