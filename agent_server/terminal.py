"""What a person sees of an answer: steps as they happen, then the text. No byte drives a terminal.

Everything from a server, a model or a step goes through `plain`, which takes out escape sequences
and control characters.
"""

import codecs
import re
import shlex
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.markdown import Markdown
from rich.status import Status
from rich.text import Text

LONGEST_LINE = 160
LONGEST_WAIT = 65_536
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


_REJECTED = ("rejected", "red")


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

    `run_id` is the last run of which there was an event and `seq` the number of that event,
    `status` that of the last one that ended; they are None, 0 and None before that.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: dict[str, str] = {}
        self._spinner: Status | None = None
        self.run_id: str | None = None
        self.seq = 0
        self.status: str | None = None

    def show(self, event: Mapping[str, object]) -> None:
        """Show one event; kinds that need no line of their own are passed over."""
        self.run_id = plain(event.get("run_id")) or self.run_id
        seq = event.get("seq")
        self.seq = seq if isinstance(seq, int) else self.seq
        show = _SHOWN.get(str(event.get("type")))
        if show is not None:
            show(self, plain(event.get("step")), event)
        self._spin()

    def started(self, _step: str, event: Mapping[str, object]) -> None:
        """A run began."""
        self._line("●", "bold", f"{plain(event.get('workflow'))} started")

    def ended(self, _step: str, event: Mapping[str, object]) -> None:
        """A run ended."""
        self._running.clear()
        self.status = plain(event.get("status"))
        style = "bold green" if self.status == "success" else "bold red"
        name = f"{plain(event.get('workflow'))} {self.status}"
        self._line("●", style, name, duration=event.get("duration"))

    def began(self, step: str, event: Mapping[str, object]) -> None:
        """A step began."""
        self._running[step] = plain(event.get("message")) or step

    def completed(self, step: str, event: Mapping[str, object]) -> None:
        """A step succeeded."""
        self._line("✓", "green", step, event.get("output"), event.get("duration"))
        self._settle(step)

    def failed(self, step: str, event: Mapping[str, object]) -> None:
        """A step failed, for good or for now."""
        again = " (will retry)" if event.get("will_retry") else ""
        self._line("✗", "red", step, plain(event.get("error")) + again)
        self._settle(step)

    def skipped(self, step: str, event: Mapping[str, object]) -> None:
        """A step was left out."""
        self._line("-", "dim", step, event.get("reason"))
        self._settle(step)

    def asked(self, step: str, event: Mapping[str, object]) -> None:
        """Somebody has to decide, by one of two commands."""
        name = f"{self.run_id} {shlex.quote(step)}"
        self._line("?", "bold yellow", f"{step} asks", event.get("message"))
        self._hint(f"agent-server runs approve {name}")
        self._hint(f"agent-server runs reject {name}")
        self._running[step] = f"{step} waits for a decision"

    def decided(self, step: str, event: Mapping[str, object]) -> None:
        """Somebody has decided."""
        word, style = ("approved", "green") if event.get("approved") is True else _REJECTED
        self._line("?", style, f"{step} {word} by {plain(event.get('by'))}", event.get("reason"))
        self._settle(step)

    def waits(self, step: str, event: Mapping[str, object]) -> None:
        """A step waits: for a time, or for what somebody sends by a command or a request."""
        kind = plain(event.get("kind"))
        if kind == "timer":
            self._running[step] = f"{step} waits until {plain(event.get('expires'))}"
            return
        self._line("?", "bold yellow", f"{step} waits for a {kind}")
        if kind == "signal":
            signal = shlex.quote(plain(event.get("signal")))
            self._hint(f"agent-server runs signal {self.run_id} {signal}")
        else:
            self._hint(f"POST {plain(event.get('url_path'))}")
        self._running[step] = f"{step} waits for a {kind}"

    def _settle(self, step: str) -> None:
        # `poll@2` is a further time of `poll`.
        for name in [name for name in self._running if name.partition("@")[0] == step]:
            del self._running[name]
        self._running.pop(step, None)

    def _hint(self, text: str) -> None:
        """What a person may copy: a line of its own, whole."""
        self._console.print(Text(f"    {text}", "bold"), highlight=False, soft_wrap=True)

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


_SHOWN: Mapping[str, Callable[[StepView, str, Mapping[str, object]], None]] = {
    "workflow_started": StepView.started,
    "workflow_complete": StepView.ended,
    "step_running": StepView.began,
    "step_complete": StepView.completed,
    "step_failed": StepView.failed,
    "step_skipped": StepView.skipped,
    "approval_requested": StepView.asked,
    "approval_decided": StepView.decided,
    "wait_started": StepView.waits,
}
