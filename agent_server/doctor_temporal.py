"""The check of Temporal's cluster: whether it knows who asks, where this server does."""

import contextlib
from collections.abc import Iterator

from agent_server.cluster_access import cluster_refusal, cluster_warning
from agent_server.doctor import Finding
from agent_server.gateway.config_nodes import ConfigFileError
from agent_server.gateway.configured import GatewayMaker
from agent_server.provider_choice import ProviderChoiceError
from agent_server.settings import Settings, variable_of
from providers.registry import ProviderConfigError
from providers.upstream import Upstream


def check_cluster(settings: Settings) -> Iterator[Finding]:
    """Whether steps could get around the keys by the cluster."""
    if not settings.agent:
        return
    is_keyed = _has_other_keys(settings)
    if refusal := cluster_refusal(settings, is_keyed=is_keyed):
        mend = "use a cluster that asks for a key or a certificate, or the engine journal"
        yield Finding("Temporal", "broken", refusal, mend)
    elif warning := cluster_warning(settings, is_keyed=is_keyed):
        names = [variable_of(name) for name in ("temporal_api_key", "temporal_tls_cert")]
        yield Finding("Temporal", "note", warning, f"set {' or '.join(names)}")


def _has_other_keys(settings: Settings) -> bool:
    """Whether the store or the gateway's file may have keys."""
    if settings.database_url is not None:
        return True
    # What is wrong with the file is another finding.
    with contextlib.suppress(ConfigFileError, ProviderChoiceError, ProviderConfigError):
        return bool(GatewayMaker(settings, Upstream()).read().keys)
    return False
