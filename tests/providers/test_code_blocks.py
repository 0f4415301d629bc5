"""Code blocks apart from prose."""

import pytest

from providers.code_blocks import CodeBlock, Prose, fenced, prose_of, split_code_blocks


def test_prose_and_blocks_come_in_their_order() -> None:
    text = "before\n```yaml title\na: 1\n```\nbetween\n~~~\nraw\n~~~\nafter"
    assert split_code_blocks(text) == [
        Prose("before"),
        CodeBlock("yaml", "a: 1"),
        Prose("between"),
        CodeBlock("", "raw"),
        Prose("after"),
    ]
    assert prose_of(text) == "before\nbetween\nafter"


@pytest.mark.parametrize("text", ["```\nrun\n", "```\nrun", "````\nrun\n```", "```\nrun\n~~~"])
def test_a_block_that_is_never_closed_runs_to_the_end(text: str) -> None:
    [block] = split_code_blocks(text)
    assert isinstance(block, CodeBlock)
    assert block.text.startswith("run")


def test_an_indented_block_loses_its_indentation() -> None:
    text = "1. first\n   ```sh\n   if x; then\n     y\n   ```"
    assert split_code_blocks(text)[1] == CodeBlock("sh", "if x; then\n  y")


@pytest.mark.parametrize("text", ["plain", "a ``` b", "```\n````\n`````", "``", ""])
def test_a_fenced_text_comes_back_whole(text: str) -> None:
    assert split_code_blocks(fenced(text, "text")) == [CodeBlock("text", text)]
