"""The published rule: which messages order a run, and which only speak of one."""

import pytest

from providers.run_intent import MAX_CHARACTERS, asks_to_run

ORDERS = [
    "Create and run a system health check",
    "Create and run a health check",
    "Create and execute a monitoring workflow",
    "run it",
    "Run it!",
    "execute it",
    "Yes, run it",
    "yes, run it please",
    "go ahead and run it",
    "ok run it now",
    "Create a workflow that backs up /etc and run it",
    "Create a workflow to check the disk, then run it.",
    "Create a health workflow. Then execute it.",
    "Can you run a health check?",
    "Could you please execute it?",
    "I want you to run the health check",
    "I'd like to run a disk check",
    "create/run a disk check",
    "Write & run a disk check",
    "Just create and run it",
    "Please run:\n```yaml\nsteps: []\n```",
    "Run the following steps:\n1. check disk usage\n2. check memory",
    "Start the workflow",
    "kick off the pipeline",
    "Rerun it",
    "Create and immediately run a disk check",
    "Let's run it",
    "Run `uptime` for me",
    "If it compiles, run it",
    "Don't wait, run it",
    "Führe einen Systemcheck aus",
    "Erstelle einen Ablauf und führe ihn aus",
    "Kannst du es ausführen?",
    "Crée un bilan de santé et exécute-le",
    "Crea y ejecuta un chequeo del sistema",
    "Crie e execute uma verificação",
    "Crea ed esegui un controllo. Eseguilo.",
    "创建并运行系统健康检查",
]

NOT_ORDERS = [
    "",
    "Hello",
    "Create a workflow to check system health",
    "Create a workflow to run backups",
    "Create a workflow that runs backups every night",
    "Create a pipeline to build the image and run the tests",
    "Create a pipeline: build the image, run the tests, deploy",
    "Create a workflow for CI. Run tests, then build.",
    "Make a tool to compile and run programs",
    "Create a system health check but do not run it",
    "Create and run a health check. Don't run it yet.",
    "Don't run it",
    "Do not execute anything",
    "never run it",
    "plan only: create and run a health check",
    "Just plan it",
    "Show me the plan before you run it",
    "Do a dry run",
    "Validate it without running it",
    "How do I run it?",
    "What would you run?",
    "What happens when I run it?",
    "Show me the last run",
    "Which run failed?",
    "list runs",
    "Cancel the run 1234",
    "What is the run id",
    "List the running processes",
    "the jobs now run fine",
    "It will also run on Linux",
    "Fetch https://example.com/and/run",
    "Show scripts/run",
    "Explain this:\n```sh\nrun it\n```",
    'The button says "run it"',
    "1. Compile the binary\n2. Run it",
    "Start nginx",
    "yes",
    "Erstelle einen Ablauf, aber führe ihn nicht aus",
    "Crée un workflow mais ne l'exécute pas",
    "Crea un flujo para ejecutar copias",
    "Crea un flujo pero no lo ejecutes",
    "创建工作流,不要运行",
]


@pytest.mark.parametrize("message", ORDERS)
def test_an_order_to_run_counts(message: str) -> None:
    assert asks_to_run(message)


@pytest.mark.parametrize("message", NOT_ORDERS)
def test_speaking_of_a_run_is_no_order(message: str) -> None:
    assert not asks_to_run(message)


@pytest.mark.parametrize("answer", ["yes", "Yes, please.", "go ahead", "OK, do it!", "ja bitte"])
def test_a_bare_yes_answers_the_question_whether_to_run(answer: str) -> None:
    assert asks_to_run(answer, "Here is the workflow.\n\nShall I run it?")
    assert not asks_to_run(answer, "Shall I run it?\n\nI also wrote a second one.")
    assert not asks_to_run(answer, "Shall I add a step?")


@pytest.mark.parametrize(
    "unit", ['"', "`", "a", "```\n", "create a workflow to ", "do not ", " ", "\n- ", "a://", "no "]
)
def test_a_message_of_any_make_is_read_in_linear_time(unit: str) -> None:
    asks_to_run(unit * (MAX_CHARACTERS // len(unit)))


def test_a_message_too_long_to_read_orders_nothing() -> None:
    assert asks_to_run("run it")
    assert not asks_to_run("run it. " + "." * MAX_CHARACTERS)
    assert asks_to_run("Run this:\n````yaml\n" + "```\n#" * MAX_CHARACTERS + "\n````\n")
