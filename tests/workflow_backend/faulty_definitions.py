"""One good definition, and many with one fault each: what is said of it."""

GOOD = """
name: good
inputs:
  target: {type: string, default: /, enum: [/, /var]}
  count: {type: integer, minimum: 1, maximum: 9, default: 2}
  who: {required: true, pattern: '^[a-z]+$'}
env: {LEVEL: info, TOKEN: "${{ secrets.TOKEN }}", N: "${{ inputs.count }}"}
working_dir: work
timeout: 10m
max_parallel: 2
steps:
  - name: check-disk
    run: |
      df -h "$TARGET"
    shell: bash
    env: {TARGET: "${{ inputs.target }}", WHO: "${{ inputs.who }}", L: "${{ env.LEVEL }}"}
    timeout: 1m30s
    retry: {limit: 2, interval: 500ms, backoff: 3, max_interval: 10s, on_exit_codes: [75]}
  - name: ask
    depends: [check-disk]
    if: steps.check-disk.exit_code == 0 && inputs.count > 1
    http:
      url: https://example.com/${{ run.id }}
      method: POST
      headers: {Authorization: "Bearer ${{ secrets.TOKEN }}"}
      json: {text: "${{ steps.check-disk.outputs.stdout }}", n: [1, null]}
      expect_status: [200]
    parse: json
    continue_on_error: true
  - name: after
    depends: [ask]
    if: ${{ failure() || always() }}
    python: print("x")
    network: true
outputs: {all: "${{ steps.ask.outputs.json }}", text: "n=${{ inputs.count }}"}
"""

STEP = "steps: [{name: a, run: ls}]"
# name of the case: (document, path, part of the reason, part of the fix)
CASES: dict[str, tuple[str, str, str, str]] = {
    "misspelt key": (
        "name: x\nsteps: [{name: a, rum: ls}]",
        "steps[0].rum",
        "no key of a step",
        "Did you mean `run`?",
    ),
    "key of another format": (
        "name: x\nsteps: [{name: a, run: ls}, {name: b, run: ls, needs: [a]}]",
        "steps[1].needs",
        "no key",
        "Use `depends`.",
    ),
    "unknown key": (f"name: x\nqqqq: 1\n{STEP}", "qqqq", "no key of the top level", "inputs"),
    "the model's own name of a key": (
        "name: x\nsteps: [{name: a, run: ls, if_: 'true'}]",
        "steps[0].if_",
        "no key",
        "Did you mean `if`?",
    ),
    "retry key on the step": (
        "name: x\nsteps: [{name: a, run: ls, limit: 3}]",
        "steps[0].limit",
        "belongs to `retry`",
        "`retry: {limit: 3}`",
    ),
    "http key on the step": (
        "name: x\nsteps: [{name: a, url: 'http://x'}]",
        "steps[0].url",
        "belongs to `http`",
        "`http: {url: http://x}`",
    ),
    "step key at the top": (f"name: x\nrun: ls\n{STEP}", "run", "belongs to a step", "steps:"),
    "top key on the step": (
        "name: x\nsteps: [{name: a, run: ls, runner: local}]",
        "steps[0].runner",
        "belongs to the top level",
        "outside",
    ),
    "step key in retry": (
        "name: x\nsteps: [{name: a, run: ls, retry: {limit: 1, timeout: 5s}}]",
        "steps[0].retry.timeout",
        "belongs to a step",
        "beside `retry`",
    ),
    "no name": (STEP, "", "`name` is missing", "Add `name: system-health`"),
    "no steps": ("name: x", "", "`steps` is missing", "steps"),
    "empty steps": ("name: x\nsteps: []", "steps", "at least 1 item", "at least 1 item"),
    "step is text": ("name: x\nsteps: [ls]", "steps[0]", "needs a mapping", "mapping"),
    "run is a list": (
        "name: x\nsteps: [{name: a, run: [ls]}]",
        "steps[0].run",
        "needs text",
        "text",
    ),
    "depends is text": (
        f"{GOOD.replace('depends: [ask]', 'depends: ask')}",
        "steps[2].depends",
        "needs a list",
        "`depends: [ask]`",
    ),
    "number in env": (
        "name: x\nsteps: [{name: a, run: ls, env: {PORT: 8080}}]",
        "steps[0].env.PORT",
        "needs text",
        '`PORT: "8080"`',
    ),
    "number as timeout": (f"name: x\ntimeout: 30\n{STEP}", "timeout", "needs text", '"30s"'),
    "retry is a number": (
        "name: x\nsteps: [{name: a, run: ls, retry: 3}]",
        "steps[0].retry",
        "needs a mapping",
        "`retry: {limit: 3}`",
    ),
    "http is text": (
        "name: x\nsteps: [{name: a, http: 'https://x.org'}]",
        "steps[0].http",
        "needs a mapping",
        "http: {url:",
    ),
    "yes is no boolean": (
        "name: x\nsteps: [{name: a, run: ls, network: yes}]",
        "steps[0].network",
        "needs true or false",
        "`network: true`",
    ),
    "unknown choice": (
        "name: x\nsteps: [{name: a, run: ls, shell: zsh}]",
        "steps[0].shell",
        "is none of",
        "`shell: sh`",
    ),
    "unknown type": (
        f"name: x\ninputs: {{a: {{type: strng}}}}\n{STEP}",
        "inputs.a.type",
        "is none of",
        "`type: string`",
    ),
    "empty value": (
        "name: x\nsteps: [{name: a, run: ls, env: }]",
        "steps[0].env",
        "has no value",
        "remove it",
    ),
    "out of range": (f"name: x\nmax_parallel: 0\n{STEP}", "max_parallel", "greater than", "1"),
    "wrong version": (f"version: 2\nname: x\n{STEP}", "version", "is none of 1", "1"),
    "bad workflow name": (f"name: 'a/b'\n{STEP}", "name", "not allowed", "`name: a-b`"),
    "bad step name": (
        "name: x\nsteps: [{name: check disk, run: ls}]",
        "steps[0].name",
        "letter",
        "`check-disk`",
    ),
    "step name with a digit first": (
        "name: x\nsteps: [{name: 1st, run: ls}]",
        "steps[0].name",
        "letter",
        "`step-1st`",
    ),
    "duplicate step": (
        "name: x\nsteps: [{name: a, run: ls}, {name: a, run: ls}]",
        "steps[1].name",
        "steps[0] has the name",
        "of its own",
    ),
    "no action": ("name: x\nsteps: [{name: a}]", "steps[0]", "does nothing", "`run`"),
    "two actions": (
        "name: x\nsteps: [{name: a, run: ls, python: 'print()'}]",
        "steps[0]",
        "`run` and `python`",
        "Keep one",
    ),
    "empty script": ("name: x\nsteps: [{name: a, run: ' '}]", "steps[0].run", "is empty", "Write"),
    "shell without run": (
        "name: x\nsteps: [{name: a, python: pass, shell: sh}]",
        "steps[0].shell",
        "belongs to `run`",
        "Remove",
    ),
    "unknown dependency": (
        "name: x\nsteps: [{name: ab, run: ls}, {name: c, run: ls, depends: [aab]}]",
        "steps[1].depends[0]",
        "no step `aab`",
        "Did you mean `ab`?",
    ),
    "own dependency": (
        "name: x\nsteps: [{name: a, run: ls, depends: [a]}]",
        "steps[0].depends[0]",
        "on itself",
        "Remove",
    ),
    "cycle": (
        "name: x\nsteps: [{name: a, run: ls, depends: [b]}, {name: b, run: ls, depends: [a]}]",
        "steps[0].depends",
        "a -> b -> a",
        "`b` from the `depends` of `a`",
    ),
    "bad duration": (f"name: x\ntimeout: 5 minutes\n{STEP}", "timeout", "no duration", '"5m"'),
    "zero duration": (f"name: x\ntimeout: 0s\n{STEP}", "timeout", "no duration", "more than zero"),
    "bad retry interval": (
        "name: x\nsteps: [{name: a, run: ls, retry: {limit: 1, interval: 1x}}]",
        "steps[0].retry.interval",
        "no duration",
        '"30s"',
    ),
    "exit code of success": (
        "name: x\nsteps: [{name: a, run: ls, retry: {limit: 1, on_exit_codes: [0]}}]",
        "steps[0].retry.on_exit_codes",
        "1 to 255",
        "List",
    ),
    "exit codes of http": (
        "name: x\nsteps: [{name: a, http: {url: 'http://x'}, retry: {limit: 1,"
        " on_exit_codes: [1]}}]",
        "steps[0].retry.on_exit_codes",
        "no exit code",
        "Remove",
    ),
    "bad variable name": (
        "name: x\nsteps: [{name: a, run: ls, env: {a-b: x}}]",
        "steps[0].env.a-b",
        "letter",
        "`A_B`",
    ),
    "reserved variable": (
        "name: x\nsteps: [{name: a, run: ls, env: {RUN_ID: x}}]",
        "steps[0].env.RUN_ID",
        "set by the engine",
        "another",
    ),
    "bad input name": (
        f"name: x\ninputs: {{my-in: {{}}}}\n{STEP}",
        "inputs.my-in",
        "letter",
        "`my_in`",
    ),
    "default of another type": (
        f"name: x\ninputs: {{n: {{type: integer, default: a}}}}\n{STEP}",
        "inputs.n.default",
        "no integer",
        "Give 3",
    ),
    "boolean is no number": (
        f"name: x\ninputs: {{n: {{type: integer, default: true}}}}\n{STEP}",
        "inputs.n.default",
        "no integer",
        "Give 3",
    ),
    "default outside enum": (
        f"name: x\ninputs: {{n: {{default: c, enum: [a, b]}}}}\n{STEP}",
        "inputs.n.default",
        "not allowed",
        '"a", "b"',
    ),
    "enum of another type": (
        f"name: x\ninputs: {{n: {{type: number, enum: [a]}}}}\n{STEP}",
        "inputs.n.enum[0]",
        "no number",
        "1.5",
    ),
    "bad pattern": (
        f"name: x\ninputs: {{n: {{pattern: '('}}}}\n{STEP}",
        "inputs.n.pattern",
        "not valid",
        "RE2",
    ),
    "pattern beside enum": (
        f"name: x\ninputs: {{n: {{pattern: a, enum: [a]}}}}\n{STEP}",
        "inputs.n.pattern",
        "`enum` says all",
        "Remove one",
    ),
    "too many patterns": (
        f"name: x\ninputs: {{{', '.join(f'n{n}: {{pattern: a}}' for n in range(21))}}}\n{STEP}",
        "inputs",
        "21 inputs have a `pattern`",
        "in a step",
    ),
    "pattern of a number": (
        f"name: x\ninputs: {{n: {{type: number, pattern: a}}}}\n{STEP}",
        "inputs.n.pattern",
        "no pattern",
        "Remove",
    ),
    "bounds swapped": (
        f"name: x\ninputs: {{n: {{type: number, minimum: 2, maximum: 1}}}}\n{STEP}",
        "inputs.n.minimum",
        "over the maximum",
        "Swap",
    ),
    "expression in a script": (
        "name: x\ninputs: {target: {}}\nsteps: [{name: a, run: 'df ${{ inputs.target }}'}]",
        "steps[0].run",
        "data would become code",
        'Put it in env and use "$TARGET": `env: {TARGET: "${{ inputs.target }}"}`',
    ),
    "expression in python": (
        "name: x\nsteps: [{name: a, python: 'print(${{ run.id }})'}]",
        "steps[0].python",
        "data would become code",
        'os.environ["ID"]',
    ),
    "unknown input": (
        "name: x\nsteps: [{name: a, run: ls, env: {A: '${{ inputs.z }}'}}]",
        "steps[0].env.A",
        "no input `z`",
        "`inputs: {z: {type: string}}`",
    ),
    "misspelt input": (
        GOOD.replace("inputs.target }}", "inputs.tarqet }}"),
        "steps[0].env.TARGET",
        "no input `tarqet`",
        "Did you mean `inputs.target`?",
    ),
    "unknown step in an expression": (
        GOOD.replace("steps.ask.outputs", "steps.asq.outputs"),
        "outputs.all",
        "no step `asq`",
        "Did you mean `ask`?",
    ),
    "step that is no ancestor": (
        "name: x\nsteps: [{name: a, run: ls}, {name: b, run: ls, env:"
        " {A: '${{ steps.a.outputs.stdout }}'}}]",
        "steps[1].env.A",
        "need not have ended",
        "`depends: [a]`",
    ),
    "step that refers to itself": (
        "name: x\nsteps: [{name: a, run: ls, env: {A: '${{ steps.a.status }}'}}]",
        "steps[0].env.A",
        "refers to itself",
        "before",
    ),
    "output without outputs": (
        GOOD.replace("check-disk.outputs.stdout", "check-disk.stdout"),
        "steps[1].http.json.text",
        "a step has no `stdout`",
        "steps.check-disk.outputs.stdout",
    ),
    "step in the workflow's env": (
        f"name: x\nenv: {{A: '${{{{ steps.a.status }}}}'}}\n{STEP}",
        "env.A",
        "no step has run yet",
        "`env` of a step",
    ),
    "unknown variable": (
        "name: x\nsteps: [{name: a, run: ls, env: {A: '${{ env.B }}'}}]",
        "steps[0].env.A",
        "no variable `B`",
        "Declare",
    ),
    "unknown name": (
        "name: x\nsteps: [{name: a, run: ls, if: github.ref == 'x'}]",
        "steps[0].if",
        "`github` is no name",
        "inputs, steps",
    ),
    "unquoted text": (
        GOOD.replace("inputs.count > 1", "inputs.who == bob"),
        "steps[1].if",
        "`bob` is no name",
        "Quote text",
    ),
    "unknown function": (
        "name: x\nsteps: [{name: a, run: ls, if: trim('a') == 'a'}]",
        "steps[0].if",
        "no function `trim()`",
        "string",
    ),
    "status function outside if": (
        "name: x\nsteps: [{name: a, run: ls, env: {A: '${{ always() }}'}}]",
        "steps[0].env.A",
        "in `if` alone",
        "CEL",
    ),
    "syntax error": (
        "name: x\nsteps: [{name: a, run: ls, if: '1 =='}]",
        "steps[0].if",
        "Syntax error",
        "CEL",
    ),
    "unclosed expression": (
        "name: x\nsteps: [{name: a, run: ls, env: {A: '${{ run.id'}}]",
        "steps[0].env.A",
        "is not closed",
        "Mend",
    ),
    "secret in if": (
        "name: x\nsteps: [{name: a, run: ls, if: secrets.A == 'x'}]",
        "steps[0].if",
        "become visible",
        "`env` of the step",
    ),
    "secret in a url": (
        "name: x\nsteps: [{name: a, http: {url: 'https://x/${{ secrets.A }}'}}]",
        "steps[0].http.url",
        "become visible",
        "headers",
    ),
    "secret in outputs": (
        f"name: x\noutputs: {{a: '${{{{ secrets.A }}}}'}}\n{STEP}",
        "outputs.a",
        "become visible",
        "env",
    ),
    "secret in a computation": (
        "name: x\nsteps: [{name: a, run: ls, env: {A: '${{ secrets.A + \"x\" }}'}}]",
        "steps[0].env.A",
        "computes with a secret",
        "alone",
    ),
    "secret through a variable": (
        "name: x\nenv: {T: '${{ secrets.T }}'}\nsteps: [{name: a, run: ls,"
        " env: {A: '${{ env.T }}'}}]",
        "steps[0].env.A",
        "holds a secret",
        "secrets.NAME",
    ),
    "relative url": (
        "name: x\nsteps: [{name: a, http: {url: example.com}}]",
        "steps[0].http.url",
        "no absolute",
        "https://host/path",
    ),
    "file url": (
        "name: x\nsteps: [{name: a, http: {url: 'file:///etc/passwd'}}]",
        "steps[0].http.url",
        "no absolute",
        "https",
    ),
    "password in a url": (
        "name: x\nsteps: [{name: a, http: {url: 'https://u:p@x.org'}}]",
        "steps[0].http.url",
        "user or password",
        "secrets",
    ),
    "bad header": (
        "name: x\nsteps: [{name: a, http: {url: 'https://x.org', headers: {'a b': c}}}]",
        "steps[0].http.headers",
        "no header name",
        "Mend",
    ),
    "header with a line break": (
        "name: x\nsteps: [{name: a, http: {url: 'https://x.org', headers: {A: \"b\\r\\nC: d\"}}}]",
        "steps[0].http.headers.A",
        "line break",
        "Remove",
    ),
    "two bodies": (
        "name: x\nsteps: [{name: a, http: {url: 'https://x.org', body: a, json: 1}}]",
        "steps[0].http",
        "`body` and `json`",
        "Keep one",
    ),
    "no status": (
        "name: x\nsteps: [{name: a, http: {url: 'https://x.org', expect_status: [42]}}]",
        "steps[0].http.expect_status",
        "no HTTP status",
        "100 to 599",
    ),
}
