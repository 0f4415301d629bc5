"""The stored definitions, the ones in use kept parsed."""

from collections import OrderedDict

from workflow_backend.definition.model import Workflow
from workflow_backend.engines.journal.rows import decode_workflow
from workflow_backend.engines.journal.store import JournalStore

_KEPT = 64


class Definitions:
    """Workflows by the sha256 of their definition."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._parsed: OrderedDict[str, Workflow] = OrderedDict()

    def keep(self, sha256: str, workflow: Workflow) -> None:
        """Keep a workflow that is in the store or about to be."""
        self._parsed[sha256] = workflow
        self._parsed.move_to_end(sha256)
        if len(self._parsed) > _KEPT:
            self._parsed.popitem(last=False)

    async def get(self, sha256: str) -> Workflow:
        """The workflow with this definition."""
        workflow = self._parsed.get(sha256)
        if workflow is None:
            workflow = decode_workflow(await self._store.definition(sha256))
        self.keep(sha256, workflow)
        return workflow
