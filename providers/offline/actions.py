"""The published table of actions: what an item of a list may say, and the step that it becomes.

An item must say the whole of an action and no more; anything else is left for a person to turn into
a command. What an item names (a directory, a host) reaches the command through its environment,
never through its text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from streaming.events import JsonObject

_PATH = r"[\"']?(?P<path>/[^\s,;\"'`]*)[\"']?"
_URL = r"<?(?P<url>https?://[^\s,;\"'`<>]+)>?"
_HOST = r"(?P<host>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9-]+)*)"
_SHOW = (
    r"(?:(?:please )?(?:check|show|print|report|list|get|display|measure|monitor|view|see|inspect|"
    r"verify)(?: on| me)? )?"
)
_THE = r"(?:(?:the|my|all|current|system|system's|server|total|free|available|overall|local) )*"
_HERE = r"(?: (?:on|of|for) (?:this|the|my) (?:machine|server|system|host|computer|laptop))?"


@dataclass(frozen=True, slots=True)
class Action:
    """One row: `example` is an item that means it; `env` takes the groups of the pattern."""

    name: str
    example: str
    pattern: str
    run: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    http: bool = False
    network: bool = False
    timeout: str = "60s"


ACTIONS: tuple[Action, ...] = (
    Action(
        "disk-usage",
        "check disk usage of /var",
        rf"{_SHOW}{_THE}(?:disk|storage|file ?system)s? (?:usage|space|capacity)"
        rf"(?: (?:of|on|in|for|under) {_PATH})?{_HERE}",
        'df -h "$DIRECTORY"',
        {"DIRECTORY": "{path:-/}"},
    ),
    Action(
        "largest-directories",
        "find the largest directories in /var",
        rf"(?:find |{_SHOW}){_THE}(?:largest|biggest) (?:files|directories|folders)"
        rf"(?: and (?:files|directories|folders))? (?:of|on|in|under) {_PATH}",
        'du -xhd 1 "$DIRECTORY" 2>/dev/null | sort -rh | head -n 15',
        {"DIRECTORY": "{path}"},
        timeout="5m",
    ),
    Action(
        "memory",
        "check memory usage",
        rf"{_SHOW}{_THE}(?:memory|ram)(?: (?:usage|use|space))?{_HERE}",
        "if command -v free >/dev/null; then free -h; else vm_stat; fi",
    ),
    Action(
        "cpu-load",
        "check CPU load",
        rf"{_SHOW}{_THE}(?:cpu|processor|load)(?: (?:usage|use|load|average|averages))?{_HERE}",
        'uptime && echo "processors: $(getconf _NPROCESSORS_ONLN)"',
    ),
    Action("uptime", "check uptime", rf"{_SHOW}{_THE}uptime{_HERE}", "uptime"),
    Action(
        "processes",
        "list running processes",
        rf"{_SHOW}{_THE}(?:top |running )?processes{_HERE}",
        "ps -eo pid,pcpu,pmem,comm | sort -rnk2 | head -n 15",
    ),
    Action("date", "show the date", rf"{_SHOW}{_THE}(?:date|time|date and time){_HERE}", "date"),
    Action(
        "system-version",
        "show kernel version",
        rf"{_SHOW}{_THE}(?:kernel|os|operating system)(?: (?:version|information|info|name))?"
        rf"{_HERE}",
        "uname -a",
    ),
    Action("users", "list logged-in users", rf"{_SHOW}{_THE}logged[- ]in users{_HERE}", "who"),
    Action(
        "network-interfaces",
        "list network interfaces",
        rf"{_SHOW}{_THE}(?:network interfaces|ip addresses){_HERE}",
        "if command -v ip >/dev/null; then ip -brief address; else ifconfig; fi",
        network=True,
    ),
    Action(
        "open-ports",
        "list open ports",
        rf"{_SHOW}{_THE}(?:open|listening) ports{_HERE}",
        "if command -v ss >/dev/null; then ss -tln; else netstat -an | grep LISTEN; fi",
        network=True,
    ),
    Action(
        "dns",
        "check DNS of example.com",
        rf"(?:{_SHOW}{_THE}dns(?: (?:resolution|lookup|records?))? (?:of|for) |resolve ){_HOST}",
        'getent hosts "$HOST"',
        {"HOST": "{host}"},
        network=True,
        timeout="15s",
    ),
    Action(
        "connection",
        "check connection to example.com port 443",
        rf"{_SHOW}{_THE}(?:network |tcp )?(?:connection|connectivity|network|reachability) "
        rf"(?:to|of|with) {_HOST}(?:(?::| on port | port )(?P<port>\d{{1,5}}))?",
        'timeout 10 bash -c \'exec 3<>"/dev/tcp/$HOST/$PORT"\' && echo "$HOST:$PORT is reachable"',
        {"HOST": "{host}", "PORT": "{port:-443}"},
        network=True,
        timeout="15s",
    ),
    Action(
        "http-check",
        "check https://example.com",
        rf"(?:http check(?: of)?|check(?: that)?|fetch|get|request|probe) {_URL}"
        r"(?: (?:is up|answers|responds|works))?",
        http=True,
        timeout="30s",
    ),
    Action(
        "backup",
        "back up /etc",
        rf"(?:back ?up|archive|compress)(?: the)?(?: (?:directory|folder))? {_PATH}",
        'archive="$(basename "$DIRECTORY")-$(date +%Y%m%d-%H%M%S).tar.gz"\n'
        'tar -czf "$archive" -C "$(dirname "$DIRECTORY")" "$(basename "$DIRECTORY")"\n'
        'tar -tzf "$archive" >/dev/null && ls -l "$archive"',
        {"DIRECTORY": "{path}"},
        timeout="30m",
    ),
    Action(
        "list-files",
        "list files in /tmp",
        rf"{_SHOW}{_THE}(?:files|contents?)(?: (?:in|of|under))(?: (?:directory|folder))? {_PATH}",
        'ls -la "$DIRECTORY"',
        {"DIRECTORY": "{path}"},
    ),
    Action(
        "count-errors",
        "count errors in /var/log/syslog",
        rf"(?:count |find |scan(?: for)? |{_SHOW}){_THE}errors in {_PATH}",
        'grep -icE "error|fail|critical" "$FILE" || [ $? -eq 1 ]',
        {"FILE": "{path}"},
    ),
    Action(
        "checksum",
        "checksum of /etc/hosts",
        rf"(?:compute |calculate |{_SHOW}){_THE}(?:sha-?256 )?checksum of {_PATH}",
        'sha256sum "$FILE" 2>/dev/null || shasum -a 256 "$FILE"',
        {"FILE": "{path}"},
    ),
    Action(
        "wait",
        "wait 5 seconds",
        r"(?:wait|sleep|pause)(?: for)? (?P<seconds>\d{1,3}) ?(?:s|sec|secs|seconds?)",
        'sleep "$SECONDS_TO_WAIT"',
        {"SECONDS_TO_WAIT": "{seconds}"},
        timeout="20m",
    ),
)

_COMPILED = tuple((action, re.compile(action.pattern, re.IGNORECASE)) for action in ACTIONS)
_PLACEHOLDER = re.compile(r"\{(\w+)(?::-([^}]*))?\}")
_MAX_ITEM_CHARACTERS = 500


def action_step(item: str) -> JsonObject | None:
    """The step, without its name, of an item that says one action; None if it says none."""
    words = re.sub(r"\s+", " ", item[: _MAX_ITEM_CHARACTERS + 1]).strip().rstrip(".!;,:")
    if len(words) > _MAX_ITEM_CHARACTERS:
        return None
    for action, pattern in _COMPILED:
        match = pattern.fullmatch(words)
        if match:
            return _step(action, match)
    return None


def _step(action: Action, match: re.Match[str]) -> JsonObject:
    step: JsonObject = {"timeout": action.timeout}
    if action.http:
        return {"http": {"url": match["url"], "method": "GET"}, **step}
    step = {"run": action.run, **step}
    if action.env:
        step["env"] = {name: _filled(value, match) for name, value in action.env.items()}
    if action.network:
        step["network"] = True
    return step


def _filled(template: str, match: re.Match[str]) -> str:
    return _PLACEHOLDER.sub(lambda part: match[part[1]] or part[2] or "", template)
