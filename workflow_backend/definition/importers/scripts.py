"""Commands and scripts of other formats as scripts of ours, with their data passed by `env`."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from workflow_backend.definition.importers.draft import StepDraft
from workflow_backend.definition.importers.notes import scalar_text
from workflow_backend.definition.importers.other_scripts import rewrite_foreign, rewrite_python
from workflow_backend.definition.importers.references import Reference
from workflow_backend.definition.importers.scope import Value, free_name, variable_for
from workflow_backend.definition.importers.shell_scripts import rewrite_shell, without_braces

_SHELLS = {"sh": "sh", "dash": "sh", "ash": "sh", "bash": "bash"}
_LIKE_BASH = frozenset({"zsh", "ksh", "mksh"})
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_ASSIGNED = re.compile(r"\b([A-Za-z_]\w*)=|\b(?:for|read(?:\s+-\w+)*)\s+([A-Za-z_]\w*)")
_FROM_SYSTEM = frozenset({
    "PATH", "HOME", "USER", "PWD", "OLDPWD", "SHELL", "LANG", "TMPDIR", "HOSTNAME", "IFS",
    "RANDOM", "SECONDS", "LINENO", "UID", "EUID", "PPID", "BASH_SOURCE", "OPTARG", "OPTIND",
    "RUN_ID", "STEP", "ATTEMPT", "OUTPUT", "REPLY", "TERM", "LOGNAME",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Script:
    """A script and what reads it: `sh`, `bash`, `python`, or the command of another program."""

    language: str
    text: str


def script_of(command: object, script: str, shell: str) -> Script:
    """The script of a step that has a `command`, a `script` or both."""
    if not script:
        return Script(shell, command_text(command))
    program = command_text(command).strip()
    shebang = re.match(r"#!\s*(\S+)(?:\s+(\S+))?", script)
    if not program and shebang:
        first, second = shebang.group(1), shebang.group(2)
        program = second if first.endswith("/env") and second else first
    return Script(language_of(program) if program else shell, script)


def command_text(command: object) -> str:
    """A command in any form as shell text; a list is one command of several words, or several."""
    if isinstance(command, list):
        words = [scalar_text(item) for item in command if not isinstance(item, (list, Mapping))]
        if any(" " in word.strip() or "\n" in word for word in words) and _are_commands(words):
            return "set -e\n" + "\n".join(words)
        return " ".join(_word(word) for word in words)
    return scalar_text(command) if not isinstance(command, Mapping) else ""


def language_of(program: str) -> str:
    """What a program's command reads: a known language, or the command itself."""
    name = PurePosixPath(program.split()[0]).name if program.split() else ""
    if name in _SHELLS:
        return _SHELLS[name]
    if name in _LIKE_BASH:
        return "bash"
    return "python" if _PYTHON.fullmatch(name) else program


def is_like_bash(program: object) -> bool:
    """Whether the shell is none of ours, but near to one."""
    words = scalar_text(program).split() if isinstance(program, str) else []
    return bool(words) and PurePosixPath(words[0]).name in _LIKE_BASH


class ScriptWriter:
    """Writes a script into a draft; what it refers to comes by the step's `env`."""

    def __init__(self, draft: StepDraft) -> None:
        self._draft = draft
        self._texts = draft.texts
        self._scope = draft.texts.scope
        self._printed: dict[str, None] = {}
        self._place = draft.path
        self._assigned: set[str] = set()

    def write(self, script: Script, path: str) -> None:
        """Give the step `run` or `python`."""
        if not script.text.strip():
            self._draft.in_words(f"Write the command of {self._draft.name}")
            return
        if script.language == "python":
            self._draft.data["python"] = self._rewritten(script, path)
            return
        text = self.shell_text(script, path)
        self._draft.data["run"] = text
        if script.language == "bash":
            self._draft.data["shell"] = "bash"

    def shell_text(self, script: Script, path: str) -> str:
        """The script as text for a shell."""
        text = self._rewritten(script, path)
        if script.language not in {"sh", "bash"}:
            text = _by_program(script.language, text)
        trims = [f"{name}=$(printf '%s' \"${name}\")\n" for name in self._printed]
        return "".join(trims) + text

    def _rewritten(self, script: Script, path: str) -> str:
        self._place = path
        rewrite = {"sh": rewrite_shell, "bash": rewrite_shell, "python": rewrite_python}
        if script.language in {"sh", "bash"}:
            found = _ASSIGNED.findall(script.text)
            self._assigned = {name for pair in found for name in pair if name}
        result = rewrite.get(script.language, rewrite_foreign)(script.text, self.name_of)
        for raw in dict.fromkeys(result.kept):
            if raw.startswith("{{") and not self._scope.has_braces:
                continue
            self._scope.notes.add(
                path,
                f"`{raw[:80]}` stands where a script cannot be given a value safely.",
                "It stays as text; the variable of that name is in `env` if it is known.",
            )
        return result.text

    def name_of(self, reference: Reference) -> str | None:
        """The variable that holds what the reference stands for, put into `env` if need be."""
        if not reference.path or not self._scope.reads(reference):
            return None
        value = self._scope.resolve(reference.path, self._draft.name)
        if value is None and (reference.is_native or reference.is_positional):
            self._note_unset(reference)
            return None
        value = value or self._texts.unknown(reference, self._place)
        if value is None:
            return None
        shared = self._shared(reference)
        return shared if shared is not None else self._own(reference, value)

    def _shared(self, reference: Reference) -> str | None:
        """The variable, if every step has it anyway: a parameter or one of the workflow's."""
        if len(reference.path) != 1 or reference.path[0] in self._scope.outputs:
            return None
        name = reference.path[0]
        return self._scope.input_names.get(name) or self._scope.env_names.get(name)

    def _own(self, reference: Reference, value: Value) -> str:
        env, name = self._draft.env, variable_for(reference)
        if env.get(name, value.template) != value.template:
            name = free_name(name, env)
        env[name] = value.template
        self._texts.use(value)
        if value.is_output:
            self._printed[name] = None
        return name

    def _note_unset(self, reference: Reference) -> None:
        name = reference.path[0]
        own_env = name in self._draft.env
        if not name.isupper() or own_env or name in _FROM_SYSTEM or name in self._assigned:
            return
        self._scope.notes.add(
            self._place,
            f"nothing here sets `{reference.raw[:80]}`, and steps get no variables of the server.",
            "The script stays as it is; set it in `env` if it is needed.",
        )


def _are_commands(words: list[str]) -> bool:
    """Whether a list holds whole commands rather than the words of one."""
    first = words[0].strip() if words else ""
    return " " in first or "\n" in first or all(" " in word.strip() for word in words[1:])


def _word(word: str) -> str:
    """A word of a command; one with references stays open for the shell, in double quotes."""
    if "$" not in word and "{{" not in word:
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
    return f'"{escaped}"'


def _by_program(program: str, text: str) -> str:
    """A shell script that gives the text to a program as a file."""
    mark, number = "END_OF_SCRIPT", 1
    while mark in text:
        number += 1
        mark = f"END_OF_SCRIPT_{number}"
    end = "" if text.endswith("\n") else "\n"
    program = without_braces(program)
    return (
        f'script=$(mktemp)\ncat > "$script" <<\'{mark}\'\n{text}{end}{mark}\n{program} "$script"\n'
    )
