"""Which imported steps get the network: those whose script is known to need it.

Steps of Kubiya and Dagu all have it; a step here has none unless it says so.
"""

import re
from collections.abc import Iterable

from workflow_backend.definition.importers.draft import StepDraft
from workflow_backend.definition.importers.notes import Notes
from workflow_backend.definition.lint import uses_network_command

_PYTHON = re.compile(
    r"^\s*(?:import|from)\s+(?:requests|urllib|http|httpx|aiohttp|socket|smtplib|ftplib|boto3"
    r"|paramiko)\b",
    re.MULTILINE,
)


def open_network(drafts: Iterable[StepDraft], notes: Notes) -> None:
    """Give them the network, and note that the others have none."""
    is_any = False
    for draft in drafts:
        run, python = draft.data.get("run"), draft.data.get("python")
        by_shell = isinstance(run, str) and uses_network_command(run) is not None
        if by_shell or (isinstance(python, str) and _PYTHON.search(python)):
            draft.data["network"] = True
        is_any = is_any or "run" in draft.data or "python" in draft.data
    if is_any:
        notes.add(
            "steps",
            "every step had the network there.",
            "Those whose commands are known to need it have `network: true`, the others have none.",
        )
