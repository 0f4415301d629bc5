"""The bytes of a request's head."""

import pytest

from providers.http import Origin, RequestError, UrlError, request_head

DEFAULTS = b"user-agent: agent-server\r\naccept: */*\r\naccept-encoding: identity\r\n"


@pytest.mark.parametrize(
    ("url", "origin", "target", "host"),
    [
        ("https://api.example.com/v1/x", ("https", "api.example.com", 443), b"/v1/x", None),
        ("https://api.example.com", ("https", "api.example.com", 443), b"/", None),
        ("https://api.example.com:443/a", ("https", "api.example.com", 443), b"/a", None),
        ("http://API.Example.com/a", ("http", "api.example.com", 80), b"/a", None),
        ("http://h:8080/a?b=c&d=/e", ("http", "h", 8080), b"/a?b=c&d=/e", b"h:8080"),
        ("http://h?b=c", ("http", "h", 80), b"/?b=c", b"h"),
        ("http://h/a#part", ("http", "h", 80), b"/a", b"h"),
        ("http://[::1]:8000/a", ("http", "::1", 8000), b"/a", b"[::1]:8000"),
        ("http://[::1]/a", ("http", "::1", 80), b"/a", b"[::1]"),
        ("http://bücher.example/ü?q=a b", ("http", "xn--bcher-kva.example", 80),
         b"/%C3%BC?q=a%20b", b"xn--bcher-kva.example"),
        ("http://h/a%2Fb", ("http", "h", 80), b"/a%2Fb", b"h"),
    ],
)  # fmt: skip
def test_a_url_says_where_to_go_and_what_to_ask(
    url: str, origin: tuple[str, str, int], target: bytes, host: bytes | None
) -> None:
    expected = b"GET %b HTTP/1.1\r\nhost: %b\r\n" % (target, host or b"api.example.com")
    if host is None:
        expected = expected.replace(b"api.example.com", origin[1].encode())
    where, head = request_head("GET", url, {}, None)
    assert where == Origin(*origin)
    assert head == expected + DEFAULTS + b"\r\n"


def test_headers_are_written_in_lower_case_and_the_body_is_measured() -> None:
    headers = {"Authorization": "Bearer ü", "X-Empty": "", "Content-Type": " application/json\t"}
    _, head = request_head("POST", "http://h/", headers, b"12345")
    assert head == (
        "POST / HTTP/1.1\r\nhost: h\r\nauthorization: Bearer ü\r\nx-empty: \r\n"
        "content-type: application/json\r\n".encode()
        + DEFAULTS
        + b"content-length: 5\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", None, b""),
        ("HEAD", None, b""),
        ("DELETE", None, b""),
        ("POST", None, b"content-length: 0\r\n"),
        ("PUT", None, b"content-length: 0\r\n"),
        ("POST", b"", b"content-length: 0\r\n"),
        ("DELETE", b"{}", b"content-length: 2\r\n"),
    ],
)
def test_a_method_that_means_a_body_always_says_its_length(
    method: str, body: bytes | None, length: bytes
) -> None:
    _, head = request_head(method, "http://h/", {}, body)
    assert head.endswith(DEFAULTS + length + b"\r\n")
    assert head.count(b"content-length") == len(length) // len(b"content-length: 0\r\n")


@pytest.mark.parametrize("name", ["Host", "User-Agent", "Accept", "Accept-Encoding"])
def test_a_header_of_the_caller_replaces_the_usual_one(name: str) -> None:
    _, head = request_head("GET", "http://h/", {name: "mine"}, None)
    lines = head.lower().split(b"\r\n")
    assert [line for line in lines if line.startswith(name.lower().encode() + b":")] == [
        f"{name.lower()}: mine".encode()
    ]


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\0", "\x0b", "\x7f", "\x1f"])
@pytest.mark.parametrize("place", ["value", "name", "url", "method"])
def test_no_control_character_gets_into_a_head(bad: str, place: str) -> None:
    text = f"a{bad}b"
    headers = {"value": {"x": text}, "name": {text: "x"}}.get(place, {})
    url = f"http://h/{text}" if place == "url" else "http://h/"
    with pytest.raises(RequestError):
        request_head(text if place == "method" else "GET", url, headers, None)


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\tb"])
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(RequestError):
        request_head("GET", "http://h/", {name: "x"}, None)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
def test_a_header_that_frames_the_message_is_not_the_callers(name: str) -> None:
    with pytest.raises(RequestError):
        request_head("POST", "http://h/", {name: "5"}, b"12345")


@pytest.mark.parametrize("text", ["http://h/\ud800", "value"])
def test_half_of_a_surrogate_pair_is_refused(text: str) -> None:
    headers = {"x": "\ud800"} if text == "value" else {}
    with pytest.raises(RequestError):
        request_head("GET", "http://h/" if headers else text, headers, None)


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "/v1", "ftp://h/", "http://", "http:///a", "http://:80/", "http://h:port/",
        "http://h:0/", "http://h:99999/", "http://[::1/", "http://user:secret@h/", "http://@h/",
        "http://a..b/", f"http://{'a' * 64}.example/", "http://a b/", "ws://h/",
    ],
)  # fmt: skip
def test_what_is_no_http_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(UrlError) as raised:
        request_head("GET", url, {}, None)
    assert str(raised.value) == ""


def test_heads_with_a_header_that_always_differs_are_right() -> None:
    for number in range(1000):
        _, head = request_head("GET", "http://h/", {"x-trace": str(number)}, None)
        assert b"\r\nx-trace: %d\r\n" % number in head
