"""What a person sees of an answer: steps as they happen, then the text. No byte drives a terminal.

Everything from a server, a model or a step goes through `plain`, which takes out escape sequences
and control characters.
"""

import codecs
import re
from collections.abc import Mapping

from rich.console import Console
from rich.markdown import Markdown
from rich.status import Status
from rich.text import Text

LONGEST_LINE = 160
LONGEST_WAIT = 65_536
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(value: object) -> str:
    """The text of a value without anything that a terminal would obey; tabs and newlines stay."""
    return _CONTROLS.sub("", _ESCAPES.sub("", "" if value is None else str(value)))


class PlainText:
    """Bytes of UTF-8 made plain as they come, line by line."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, data: bytes) -> str:
        """What of it can be shown now."""
        self._pending += self._decoder.decode(data)
        # What is cut within a sequence stays harmless: its first character goes in any case.
        cut = self._pending.rfind("\n") + 1 or len(self._pending) // LONGEST_WAIT * LONGEST_WAIT
        text, self._pending = self._pending[:cut], self._pending[cut:]
        return plain(text)

    def end(self) -> str:
        """The rest."""
        return plain(self._pending + self._decoder.decode(b"", final=True))


class StepView:
    """Shows the events of workflow runs: a line for each outcome, a spinner for what goes on.

    `run_id` is the last run of which there was an event, `status` that of the last one that ended;
    both are None before that.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: dict[str, str] = {}
        self._spinner: Status | None = None
        self.run_id: str | None = None
        self.status: str | None = None

    def show(self, event: Mapping[str, object]) -> None:
        """Show one event; kinds that need no line of their own are passed over."""
        kind, step = event.get("type"), plain(event.get("step"))
        self.run_id = plain(event.get("run_id")) or self.run_id
        if kind == "workflow_started":
            self._line("●", "bold", f"{plain(event.get('workflow'))} started")
        elif kind == "step_running":
            self._running[step] = plain(event.get("message")) or step
        elif kind == "step_complete":
            self._line("✓", "green", step, event.get("output"), event.get("duration"))
        elif kind == "step_failed":
            again = " (will retry)" if event.get("will_retry") else ""
            self._line("✗", "red", step, plain(event.get("error")) + again)
        elif kind == "step_skipped":
            self._line("-", "dim", step, event.get("reason"))
        elif kind == "workflow_complete":
            self.status = plain(event.get("status"))
            style = "bold green" if self.status == "success" else "bold red"
            name = f"{plain(event.get('workflow'))} {self.status}"
            self._line("●", style, name, duration=event.get("duration"))
        if kind in {"step_complete", "step_failed", "step_skipped"}:
            self._running.pop(step, None)
        elif kind == "workflow_complete":
            self._running.clear()
        self._spin()

    def close(self) -> None:
        """Take the spinner away."""
        self._running.clear()
        self._spin()

    def _line(
        self, sign: str, style: str, name: str, detail: object = None, duration: object = None
    ) -> None:
        line = Text.assemble((f"{sign} {name}", style))
        if duration:
            line.append(f"  {plain(duration)}", "dim")
        self._console.print(line, highlight=False)
        for text in plain(detail).strip().splitlines():
            if text.strip():
                shown = text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…"
                self._console.print(Text(f"    {shown}", "dim"), highlight=False)

    def _spin(self) -> None:
        if not self._running and self._spinner:
            self._spinner.stop()
            self._spinner = None
        elif self._running and self._console.is_terminal:
            label = Text(", ".join(self._running.values())[:LONGEST_LINE])
            if self._spinner is None:
                self._spinner = self._console.status(label)
                self._spinner.start()
            else:
                self._spinner.update(label)


def print_answer(console: Console, text: str) -> None:
    """The text of an answer: Markdown at a terminal, as it is elsewhere."""
    text = plain(text).strip()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        console.print(Text(text), soft_wrap=True)
