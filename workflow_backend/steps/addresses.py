"""Which addresses an `http` step may reach.

Refused unless listed: loopback, link-local (with the clouds' metadata services), private, shared,
multicast and reserved addresses, also inside IPv6 forms that carry an IPv4 address.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")


class AddressRefusedError(Exception):
    """The host resolves to an address that steps may not reach."""


class AddressPolicy:
    """The rule with its exceptions: host names, addresses and networks (`10.1.0.0/16`)."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._hosts: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in allowed:
            try:
                self._networks.append(ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                self._hosts.add(_host(entry))

    def check(self, host: str, address: str) -> None:
        """Let the address of the host pass.

        Raises:
            AddressRefusedError: It does not pass.
        """
        found = ip_address(address.partition("%")[0])
        inner = _embedded(found)
        if _host(host) in self._hosts or any(
            candidate in network
            for network in self._networks
            for candidate in (found, inner)
            if candidate.version == network.version
        ):
            return
        if not _is_public(inner):
            raise AddressRefusedError(
                f"{host} is {found}, an address that is not public; steps may reach it only if the"
                " server's list of allowed hosts names it"
            )


def as_address(host: str) -> str | None:
    """The host as an address, if it is written as one."""
    try:
        return str(ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        return None


def _host(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour or address
    # IPv4-compatible (::a.b.c.d) and NAT64 carry it in the last 32 bits.
    if address in _NAT64 or 1 < int(address) < 2**32:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
