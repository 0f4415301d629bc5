"""The search attributes by which runs are listed, and their registration."""

from datetime import timedelta
from urllib.parse import quote

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from workflow_backend.engines.base import EngineUnavailableError

OWNER = SearchAttributeKey.for_keyword("AgentServerOwner")
WORKFLOW = SearchAttributeKey.for_keyword("AgentServerWorkflow")
STATUS = SearchAttributeKey.for_keyword("AgentServerStatus")
PARENT = SearchAttributeKey.for_keyword("AgentServerParent")
ATTRIBUTES = (OWNER.name, WORKFLOW.name, STATUS.name, PARENT.name)

_HARMLESS = " ._-:/@+="


def attribute_text(text: str) -> str:
    """A text as the value of an attribute: what a query could not quote is escaped by `%`."""
    return quote(text, safe=_HARMLESS)


def attributes_of(
    owner: str, workflow: str, status: str, parent_run_id: str | None
) -> TypedSearchAttributes:
    """The attributes of a run that begins."""
    pairs = [
        SearchAttributePair(OWNER, attribute_text(owner)),
        SearchAttributePair(WORKFLOW, attribute_text(workflow)),
        SearchAttributePair(STATUS, status),
    ]
    if parent_run_id is not None:
        pairs.append(SearchAttributePair(PARENT, parent_run_id))
    return TypedSearchAttributes(pairs)


async def register(client: Client, limit: timedelta) -> None:
    """Register the attributes that the namespace lacks.

    Raises:
        EngineUnavailableError: It lacks some, and we may not add them.
        RPCError: The cluster is away.
    """
    operator = client.operator_service
    listing = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        known = await operator.list_search_attributes(listing, timeout=limit)
        missing = [name for name in ATTRIBUTES if name not in known.custom_attributes]
        if not missing:
            return
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        adding = AddSearchAttributesRequest(
            namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword)
        )
        await operator.add_search_attributes(adding, timeout=limit)
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return
        if error.status in {
            RPCStatusCode.PERMISSION_DENIED,
            RPCStatusCode.UNIMPLEMENTED,
            RPCStatusCode.UNAUTHENTICATED,
        }:
            raise EngineUnavailableError(_mend(client.namespace, error.message)) from error
        raise


def _mend(namespace: str, reason: str) -> str:
    options = " ".join(f"--name {name} --type Keyword" for name in ATTRIBUTES)
    return (
        f"the namespace {namespace!r} needs the search attributes {', '.join(ATTRIBUTES)}, which"
        f" we may not look up or add ({reason}). Add those that are missing:"
        f" `temporal operator search-attribute create --namespace {namespace} {options}`"
        " (Temporal Cloud: in the settings of the namespace)"
    )
