"""Which addresses belong to the public internet.

``ipaddress``'s own is_global is not enough: it takes multicast, the relays of 6to4 and site-local addresses for global, and looks at
IPv6 addresses that hold an IPv4 one only in part and differently from version to version.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_NOT_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24"
            " 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24"
            " 224.0.0.0/4 240.0.0.0/4"
        ).split(),
    )
)
_IPV6 = IPv6Network("2000::/3")  # all that is given out as global unicast
_NOT_IPV6 = tuple(map(IPv6Network, "2001::/23 2001:db8::/32 2620:4f:8000::/48 3fff::/20".split()))
_HOLD_IPV4 = (  # and how many bits stand behind the IPv4 address
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)


def is_public(text: str) -> bool:
    """Whether an address may be asked on behalf of somebody who cannot reach this machine's own networks."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        for network, shift in _HOLD_IPV4:
            if address in network:
                return _is_public_ipv4(IPv4Address((int(address) >> shift) & 0xFFFFFFFF))
        return address in _IPV6 and address.is_global and not any(address in network for network in _NOT_IPV6)
    return _is_public_ipv4(address)


def _is_public_ipv4(address: IPv4Address) -> bool:
    return address.is_global and not any(address in network for network in _NOT_IPV4)
