import io

from rich.console import Console

from agent_server.terminal import StepView, plain, print_answer


def shown(*events: dict[str, object]) -> tuple[str, StepView]:
    stream = io.StringIO()
    view = StepView(Console(file=stream, width=100))
    for event in events:
        view.show(event)
    view.close()
    return stream.getvalue(), view


def test_plain_text_keeps_words_and_drops_what_a_terminal_obeys() -> None:
    hostile = "a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\x00e\u202ef\tg\nh"
    assert plain(hostile) == "abc2Jdef\tg\nh"


def test_steps_are_shown_with_their_outcome() -> None:
    said, view = shown(
        {"type": "workflow_started", "workflow": "w", "run_id": "r"},
        {"type": "step_running", "step": "a", "message": "Doing a"},
        {"type": "step_complete", "step": "a", "output": "one\ntwo", "duration": "1.2s"},
        {"type": "step_failed", "step": "b", "error": "broke", "will_retry": True},
        {"type": "step_skipped", "step": "c", "reason": "not needed"},
        {"type": "workflow_complete", "workflow": "w", "status": "failed", "duration": "2.0s"},
    )
    assert said.splitlines() == [
        "● w started",
        "✓ a  1.2s",
        "    one",
        "    two",
        "✗ b",
        "    broke (will retry)",
        "- c",
        "    not needed",
        "● w failed  2.0s",
    ]
    assert (view.run_id, view.status) == ("r", "failed")


def test_what_a_step_waits_for_is_shown_with_the_command_that_gives_it() -> None:
    said, view = shown(
        {
            "type": "approval_requested",
            "step": "ask[0]",
            "message": "Ship?",
            "run_id": "r",
            "seq": 2,
        },
        {"type": "wait_started", "step": "go", "kind": "signal", "signal": "now"},
        {
            "type": "wait_started",
            "step": "hook",
            "kind": "webhook",
            "url_path": "/v1/h/" + "x" * 150,
        },
        {"type": "wait_started", "step": "pause", "kind": "timer", "expires": "later"},
        {"type": "approval_decided", "step": "ask[0]", "approved": False, "by": "ann", "seq": 9},
    )
    assert said.splitlines() == [
        "? ask[0] asks",
        "    Ship?",
        "    agent-server runs approve r 'ask[0]'",
        "    agent-server runs reject r 'ask[0]'",
        "? go waits for a signal",
        "    agent-server runs signal r now",
        "? hook waits for a webhook",
        f"    POST /v1/h/{'x' * 150}",
        "? ask[0] rejected by ann",
    ]
    assert (view.seq, view.status) == (9, None)


def test_markup_in_an_output_is_text() -> None:
    said, _ = shown({"type": "step_complete", "step": "[red]a", "output": "[bold]x[/nope]"})
    assert said.splitlines() == ["✓ [red]a", "    [bold]x[/nope]"]


def test_a_long_line_is_cut() -> None:
    said, _ = shown({"type": "step_complete", "step": "a", "output": "x" * 500})
    assert "…" in said
    assert said.count("x") < 200


def test_an_answer_is_plain_text_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    print_answer(Console(file=stream, width=20), "# Title\n\x1b[2J[bold]" + "y" * 60)
    assert stream.getvalue() == "# Title\n[bold]" + "y" * 60 + "\n"
