"""Lines of a growing file: the same however the bytes come, none too long, none with a secret."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphql_api.domain.events import LINE_LIMIT
from runners.lines import LOOKED_AT, Line, Place, Splitter, cut, readable
from runners.output import SECRET_LIMIT

KEEP = 5
HIDDEN = "[secret]"
#: What can stand in the way of splitting, more often than among all bytes.
BYTES = st.lists(
    st.sampled_from(
        [b"\n", b"\r", b"a", b"bcd", b"\xe2\x82\xac", b"\xe2", b"\xff", b"\x1b[31m", b"\x1b]", b"\0", b"S3CR3T"]
    )
    | st.binary(max_size=3),
    max_size=40,
).map(b"".join)
ANYTHING = settings(deadline=None, database=None)
POINTS = st.lists(st.integers(0, 200), max_size=10)


def parts(data: bytes, points: Sequence[int]) -> Iterator[bytes]:
    """The data, divided at these points."""
    places = [0, *sorted(point % (len(data) + 1) for point in points), len(data)]
    for start, end in pairwise(places):
        yield data[start:end]


def split(data: bytes, keep: int) -> list[bytes]:
    """The lines, in the simplest way there is, where all of the data is at hand."""
    *whole, rest = data.split(b"\n")
    return [line[: keep + 1] for line in (*whole, *([rest] if rest else []))]


def hiding(*secrets: str) -> Callable[[str], str]:
    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        return text

    return hide


def shown(data: bytes, hide: Callable[[str], str] = str) -> list[Line]:
    """The lines of a whole file."""
    splitter = Splitter(LOOKED_AT)
    return readable([*splitter.feed(data), *splitter.end()], hide)


# --- where lines end


@ANYTHING
@given(BYTES, POINTS)
@example(b"", [])
@example(b"abcdef", [5])
@example(b"abcdef\nx\n", [6])
def test_lines_are_the_same_however_the_bytes_come(data: bytes, points: list[int]) -> None:
    """Any division of the same bytes gives the same lines, as if all had been read at once."""
    splitter = Splitter(KEEP)

    lines = [line for part in parts(data, points) for line in splitter.feed(part)]

    assert lines + splitter.end() == split(data, KEEP)
    assert splitter.position == len(data)


@ANYTHING
@given(BYTES, POINTS, st.sets(st.integers(0, 10)))
@example(b"abcdefghi\nx", [8], {0})
def test_another_one_goes_on_at_any_place(data: bytes, points: list[int], restarts: set[int]) -> None:
    """Whoever starts at a place that was reported gives exactly what was not given before, also within a cut line."""
    splitter = Splitter(KEEP)
    lines = []
    for number, part in enumerate(parts(data, points)):
        if number in restarts:
            behind, splitter = splitter.position, Splitter(KEEP, splitter.place)
            lines += splitter.feed(data[splitter.position : behind])
        lines += splitter.feed(part)

    assert lines + splitter.end() == split(data, KEEP)


@ANYTHING
@given(BYTES)
def test_a_place_is_behind_what_was_given(data: bytes) -> None:
    """It is the beginning of the line that has begun, or wherever one is that goes on for too long."""
    splitter = Splitter(KEEP)
    splitter.feed(data)
    begun = data.rpartition(b"\n")[2]

    skipping = len(begun) > KEEP
    assert splitter.place == Place(len(data) if skipping else len(data) - len(begun), skipping)


def test_a_line_is_given_when_its_end_is_there() -> None:
    """Half a line is none until it is known that nothing follows."""
    splitter = Splitter(KEEP)

    assert splitter.feed(b"ab") == []
    assert splitter.feed(b"c\nde") == [b"abc"]
    assert splitter.end() == [b"de"]
    assert splitter.end() == []


def test_a_long_line_is_given_at_once_and_its_rest_never() -> None:
    """Nobody has to wait for the end of a line that is cut in any case."""
    splitter = Splitter(KEEP)

    assert splitter.feed(b"abcdefgh") == [b"abcdef"]
    assert splitter.place == Place(8, skipping=True)
    assert splitter.feed(b"ijk") == []
    assert splitter.feed(b"l\nm\n") == [b"m"]
    assert splitter.place == Place(15)


def test_a_very_long_line_takes_bounded_memory() -> None:
    """What is skipped is not kept."""
    splitter = Splitter(LOOKED_AT)
    part = b"x" * 64 * 1024
    tracemalloc.start()
    try:
        lines = [line for _ in range(500) for line in splitter.feed(part)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [len(line) for line in lines] == [LOOKED_AT + 1]
    assert peak < 4 * LOOKED_AT


# --- what is in them


def test_only_a_newline_ends_a_line() -> None:
    """Whatever else counts as the end of a line elsewhere is within one, as far as it may be shown."""
    text, seen = "a\rb\x0bc\x0cd\x1ce\x85f\u2028g\u2029h", "a bcdef\u2028g\u2029h"

    assert shown(f"{text}\n{text}".encode()) == [Line(seen), Line(seen)]


def test_what_drives_a_terminal_is_left_out() -> None:
    """Bells, backspaces, escapes of one byte and marks that turn the direction of writing; a tab stays."""
    text = "a\x07b\x08c\x9b31md\u202eve\u2066n\tt\x7f"

    assert shown(f"{text}\n".encode()) == [Line("abc31mdven\tt")]


@pytest.mark.parametrize("before", [b"", b"x" * LINE_LIMIT + b"\n"], ids=["together", "one by one"])
def test_a_carriage_return_at_the_end_is_left_out(before: bytes) -> None:
    """The lines of a program that ends them as Windows does are the same lines; only one return belongs to an end."""
    lines = shown(before + b"a\r\nb\r\r\n\r\nc\r\x1b[0m\nd\r")

    assert [line.text for line in lines][-5:] == ["a", "b ", "", "c", "d"]


def test_empty_lines_are_lines() -> None:
    """What separates paragraphs separates them here too."""
    assert shown(b"\n\na\n\n") == [Line(""), Line(""), Line("a"), Line("")]
    assert shown(b"") == []


def test_lines_are_text_that_can_be_shown_anywhere() -> None:
    """Invalid UTF-8 is replaced; escape sequences, finished or not, and NULs are left out."""
    assert shown(b"a\xff\xe2\x82\n\x1b[31mred\x1b[0m\n\x1b]0;title\nb\0c\x1b\n\xe2\x82\xac") == [
        Line("a\ufffd\ufffd"),
        Line("red"),
        Line(""),
        Line("bc"),
        Line("\u20ac"),
    ]


@ANYTHING
@given(BYTES)
def test_many_lines_together_read_like_each_by_itself(data: bytes) -> None:
    """No character, escape sequence or secret goes over the end of a line."""
    hide = hiding("S3CR3T", "a\na", "bcd")
    lines = split(data, LOOKED_AT)

    assert readable(lines, hide) == [one for line in lines for one in readable([line], hide)]
    assert readable([*lines, b"x" * LINE_LIMIT], hide)[:-1] == readable(lines, hide)


@pytest.mark.parametrize("before", ["", "x", "xx", "xxx"])
@pytest.mark.parametrize("letter", ["x", "é", "€", "\N{PILE OF POO}"])
@pytest.mark.parametrize("bytes_over", [0, 1, SECRET_LIMIT + 10])
def test_a_long_line_is_cut_between_two_characters(letter: str, before: str, bytes_over: int) -> None:
    """At most LINE_LIMIT bytes are left, as many as can be, and it is said; the next line is whole."""
    size = len(letter.encode())
    fitting = before + letter * ((LINE_LIMIT - len(before)) // size)
    more = letter * -(-bytes_over // size)

    assert shown(f"{fitting}{more}\nnext\n".encode()) == [Line(fitting, truncated=bytes_over > 0), Line("next")]


def test_what_is_not_shown_does_not_count() -> None:
    """Colours and secrets make no line too long for what is left of it."""
    colours = b"\x1b[31m" * (LINE_LIMIT // 5)

    assert shown(colours + b"a" * 100 + b"S3CR3T" * 10_000, hiding("S3CR3T" * 10_000)) == [Line("a" * 100 + HIDDEN)]


def test_bytes_that_are_no_text_are_cut_as_what_is_shown_instead() -> None:
    """A replacement takes more room than the byte did."""
    (line,) = shown(b"\xff" * (LINE_LIMIT // 2))

    assert line == Line("\ufffd" * (LINE_LIMIT // 3), truncated=True)


@pytest.mark.parametrize("length", [8, 1000, SECRET_LIMIT])
@pytest.mark.parametrize("before", [-SECRET_LIMIT, -1000, -8, -7, -1, 0, 1])
@pytest.mark.parametrize("after", [0, 10, SECRET_LIMIT])
def test_a_secret_across_the_cut_is_hidden_whole(length: int, before: int, after: int) -> None:
    """Wherever it lies and however long the line is: no part of it is shown, and nothing before it is lost."""
    secret = "S3CR3T" * (length // 6) + "$" * (length % 6)
    start = max(LINE_LIMIT + before, 0)

    (line,) = shown(("x" * start + secret + "y" * after).encode(), hiding(secret))

    known = line.text.rstrip("y").replace(HIDDEN, "")
    assert HIDDEN.startswith(known.strip("x"))
    assert line.text.startswith("x" * min(start, LINE_LIMIT))


def test_a_secret_behind_another_at_the_end_of_what_is_looked_at_is_not_shown() -> None:
    """A long secret that is hidden would move what follows before the cut, where half a secret could be seen."""
    first, second = "A" * SECRET_LIMIT, "B" * SECRET_LIMIT

    (line,) = shown((first + second + "c" * LOOKED_AT).encode(), hiding(first, second))

    assert line == Line("", truncated=True)


def test_a_secret_in_one_of_many_lines_is_hidden() -> None:
    """Also where the others hold none."""
    assert shown(b"a\nb S3CR3T\nc\n", hiding("S3CR3T")) == [Line("a"), Line(f"b {HIDDEN}"), Line("c")]


def test_a_secret_of_several_lines_takes_no_end_of_a_line_along() -> None:
    """However the lines come together, there are as many; the caller names each line of such a secret."""
    hide = hiding("S3CR3T-1\nS3CR3T-2", "S3CR3T-1", "S3CR3T-2")

    assert shown(b"S3CR3T-1\nS3CR3T-2\nx\n", hide) == [Line(HIDDEN), Line(HIDDEN), Line("x")]


def test_a_text_is_cut_like_a_line() -> None:
    """Other texts than lines have the same limit."""
    assert cut("é" * LINE_LIMIT) == Line("é" * (LINE_LIMIT // 2), truncated=True)
    assert cut("short") == Line("short")
