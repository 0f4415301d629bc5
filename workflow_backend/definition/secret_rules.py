"""What limits a secret: whose runs may have it, and to which hosts it may go. Pure.

Steps are held to it when they run, and plans tell before what they would be told then.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

MAX_LISTED = 100

_OWNER = re.compile(r"[\x21-\x7e]{1,200}")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
# The last label holds a letter, so that no glob fits an address.
_HOST = re.compile(rf"(\*\.)?({_LABEL}\.)*(?=[0-9_-]*[a-z]){_LABEL}")


class SecretRuleError(ValueError):
    """A name of an owner or a host is malformed; the message says which and why."""


@dataclass(frozen=True, slots=True)
class SecretRule:
    """The limits of one secret: without `keys` it is everyone's, without `hosts` it goes anywhere.

    Hosts are names in lower case, addresses, or `*.example.com`, which is every name below that.
    """

    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def allows_owner(self, owner: str) -> bool:
        """Whether runs of the owner may have it."""
        return not self.keys or owner in self.keys

    def allows_host(self, host: str) -> bool:
        """Whether it may be sent to the host, which is as in a URL, in ASCII."""
        if not self.hosts:
            return True
        name = _plain_host(host)
        return any(
            name == known
            or (known.startswith("*.") and name.endswith(known[1:]) and name[:1] != ".")
            for known in self.hosts
        )

    def refusal(self, kind: str, *, is_offline: bool) -> str | None:
        """Why no step of this kind may have it, wherever it would send it; None if one may.

        `is_offline`: the step has no network.
        """
        if not self.hosts or kind == "http" or (is_offline and kind in {"run", "python"}):
            return None
        what = f"a `{kind}` step with the network" if kind in {"run", "python"} else f"`{kind}`"
        return f"it may go to {', '.join(self.hosts)} alone, and {what} cannot be held to that"

    def host_refusal(self, host: str) -> str | None:
        """Why an `http` step may not send it to the host; None if it may."""
        if self.allows_host(host):
            return None
        return f"it may go to {', '.join(self.hosts)} alone, not to {host}"


NO_LIMITS = SecretRule()


def secret_rule(keys: Iterable[object] = (), hosts: Iterable[object] = ()) -> SecretRule:
    """The rule of these names.

    Raises:
        SecretRuleError: One of them is no name of an owner or a host, or there are too many.
    """
    rule = SecretRule(
        tuple(dict.fromkeys(map(_owner, keys))), tuple(dict.fromkeys(map(_host, hosts)))
    )
    if max(len(rule.keys), len(rule.hosts)) > MAX_LISTED:
        raise SecretRuleError(f"a secret lists {MAX_LISTED} keys and {MAX_LISTED} hosts at most")
    return rule


def _owner(name: object) -> str:
    if isinstance(name, str) and _OWNER.fullmatch(name):
        return name
    raise SecretRuleError(f"{name!r} is no owner: 1 to 200 printable ASCII characters, no spaces")


def _host(name: object) -> str:
    host = _plain_host(name) if isinstance(name, str) else ""
    if len(host) <= 253 and (_HOST.fullmatch(host) or _is_address(host)):
        return host
    raise SecretRuleError(
        f"{name!r} is no host: write a name such as api.example.com, *.example.com for all below"
        " it, or an address; no scheme, port or path, and other letters as xn--..."
    )


def _plain_host(host: str) -> str:
    """The one spelling of a host."""
    name = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    return ip_address(name).compressed if _is_address(name) else name


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
