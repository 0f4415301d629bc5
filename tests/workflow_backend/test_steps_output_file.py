"""The `$OUTPUT` file, by the form that GitHub Actions documents."""

import pytest

from workflow_backend.steps.output_file import OutputFileError, parse_output_file

FORMS = {
    "nothing": ("", {}),
    "one": ("a=1", {"a": "1"}),
    "equals in the value": ("url=http://x/?a=b", {"url": "http://x/?a=b"}),
    "empty value": ("a=\n", {"a": ""}),
    "the later wins": ("a=1\na=2\n", {"a": "2"}),
    "heredoc": ("a<<EOF\none\n\ntwo=2\nEOF\nb=3\n", {"a": "one\n\ntwo=2", "b": "3"}),
    "empty heredoc": ("a<<X\nX\n", {"a": ""}),
    "less-than in the value": ("a=x<<y", {"a": "x<<y"}),
    "equals in the delimiter": ("a<<E=F\nv\nE=F\n", {"a": "v"}),
    "blank lines": ("\n\na=1\n\n", {"a": "1"}),
}


@pytest.mark.parametrize(("text", "outputs"), FORMS.values(), ids=FORMS.keys())
def test_each_form_is_read(text: str, outputs: dict[str, str]) -> None:
    assert parse_output_file(text) == outputs


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a=1\njust words", "line 2"),
        ("a<<EOF\nnever ended", "no line `EOF`"),
        ("a<<\nx", "a delimiter must follow"),
        ("=1", "must be letters"),
        ("a b=1", "must be letters"),
        ("stdout=1", "set by the engine"),
        ("\n".join(f"k{number}=1" for number in range(201)), "over 200 keys"),
    ],
)
def test_another_form_names_its_line(text: str, reason: str) -> None:
    with pytest.raises(OutputFileError, match=reason):
        parse_output_file(text)
