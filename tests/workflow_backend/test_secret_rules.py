"""Limits of secrets: which owners, which hosts, which kinds of steps."""

import pytest

from workflow_backend.definition.secret_rules import SecretRule, SecretRuleError, secret_rule


@pytest.mark.parametrize(
    ("pattern", "host", "fits"),
    [
        ("api.example.com", "api.example.com", True),
        ("API.Example.COM.", "api.example.com", True),
        ("api.example.com", "API.EXAMPLE.COM.", True),
        ("api.example.com", "x.api.example.com", False),
        ("api.example.com", "api.example.com.evil.test", False),
        ("api.example.com", "apiXexample.com", False),
        ("*.example.com", "api.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*.example.com", "*.example.com", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.1", False),
        ("127.0.0.1", "2130706433", False),
        ("::1", "[::1]", True),
        ("[0:0::1]", "::1", True),
        ("::1", "::2", False),
        ("vault", "vault", True),
        ("vault", "", False),
    ],
)
def test_a_host_fits_a_name_or_what_is_below_it(pattern: str, host: str, fits: bool) -> None:
    rule = secret_rule(hosts=[pattern])
    assert rule.allows_host(host) is fits
    assert (rule.host_refusal(host) is None) is fits


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "*.",
        "a.*.com",
        "*example.com",
        "**.example.com",
        "*.0.0.1",
        "https://example.com",
        "example.com:443",
        "example.com/path",
        "user@example.com",
        "ex ample.com",
        "example..com",
        "-example.com",
        "münchen.de",
        "1.2.3",
        "a" * 64 + ".com",
        "a." * 127 + "com",
        3,
        None,
    ],
)
def test_what_is_no_host_is_refused(host: object) -> None:
    with pytest.raises(SecretRuleError, match="is no host"):
        secret_rule(hosts=[host])


@pytest.mark.parametrize("owner", ["", "a b", "ü", "a\n", "x" * 201, 3])
def test_what_is_no_owner_is_refused(owner: object) -> None:
    with pytest.raises(SecretRuleError, match="is no owner"):
        secret_rule(keys=[owner])


def test_names_are_listed_once_and_not_without_end() -> None:
    assert secret_rule(["a", "a"], ["x.de", "X.de"]) == SecretRule(("a",), ("x.de",))
    with pytest.raises(SecretRuleError, match="100 hosts at most"):
        secret_rule(hosts=[f"h{number}.test" for number in range(101)])


def test_without_limits_a_secret_is_everyones_and_goes_anywhere() -> None:
    rule = SecretRule()
    assert rule.allows_owner("anybody")
    assert rule.allows_host("anywhere.test")
    assert rule.refusal("agent", is_offline=False) is None


@pytest.mark.parametrize(
    ("kind", "is_offline", "is_refused"),
    [
        ("http", False, False),
        ("run", True, False),
        ("python", True, False),
        ("run", False, True),
        ("python", False, True),
        ("agent", True, True),
        ("workflow", True, True),
    ],
)
def test_hosts_bind_every_kind_of_step_that_they_can_bind(
    kind: str, is_offline: bool, is_refused: bool
) -> None:
    refusal = secret_rule(hosts=["api.test"]).refusal(kind, is_offline=is_offline)
    assert (refusal is not None) is is_refused
