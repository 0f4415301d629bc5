"""Whether Temporal's cluster knows who asks, where the callers of this server have keys.

Who reaches a cluster that asks for no credentials reads and rules the runs of every owner there,
and decides their approvals. Steps with `network: true` reach what this machine reaches.
"""

from agent_server.listener import StartError
from agent_server.log_config import get_logger
from agent_server.settings import Settings, variable_of

log = get_logger()


def check_cluster(settings: Settings, *, is_keyed: bool) -> None:
    """Refuse a cluster that is open to everybody, or warn of one that may be.

    `is_keyed` tells of keys that are not in the settings.

    Raises:
        StartError: there are keys, and the cluster is Temporal's dev server.
    """
    if refusal := cluster_refusal(settings, is_keyed=is_keyed):
        raise StartError(refusal)
    if warning := cluster_warning(settings, is_keyed=is_keyed):
        log.warning("Cluster may be open", reason=warning)


def cluster_refusal(settings: Settings, *, is_keyed: bool) -> str | None:
    """Why the server does not start, None if it does."""
    if not settings.temporal_dev_server or not (settings.api_keys or is_keyed):
        return None
    return (
        f"{variable_of('temporal_dev_server')}: Temporal's dev server asks nobody who they are, so "
        "that any step with the network would rule the runs of every owner; with API keys, or a "
        f"store of them, use a cluster ({variable_of('temporal_host')}) with "
        f"{variable_of('temporal_api_key')} or {variable_of('temporal_tls_cert')}, or the engine "
        "journal"
    )


def cluster_warning(settings: Settings, *, is_keyed: bool) -> str | None:
    """What is to be known of a cluster that may be open to everybody."""
    if settings.temporal_host is None or not (settings.api_keys or is_keyed):
        return None
    if settings.temporal_api_key is not None or settings.temporal_tls_cert is not None:
        return None
    return (
        f"the cluster at {settings.temporal_host} is asked without a key or a certificate: whoever "
        "reaches it, such as a step with the network, rules the runs of every owner"
    )
