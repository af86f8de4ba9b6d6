"""Manifests: what is accepted, what is refused with which words and where, and what reaches the module."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Iterator

import pytest
import yaml

from graphql_api.domain.errors import InvalidManifest, ManifestProblem
from graphql_api.domain.manifest import (
    DEPTH_LIMIT,
    KEY_LIMIT,
    LABEL_LIMIT,
    LABEL_PREFIXES,
    MANIFEST_LIMIT,
    NAME_LIMIT,
    NODE_LIMIT,
    PROBLEM_LIMIT,
    examine,
    parse,
    stack_fqdn,
    stack_input,
)

HEAD = "kind: Demo\nmetadata:\n  name: sample\n"
FIRST, SECOND, THIRD = LABEL_PREFIXES


def refusal(text: str) -> tuple[ManifestProblem, ...]:
    with pytest.raises(InvalidManifest) as caught:
        parse(text)
    return caught.value.problems


def refused_stack(text: str, *, self_managed: bool = True) -> ManifestProblem:
    with pytest.raises(InvalidManifest) as caught:
        stack_fqdn(parse(text), self_managed=self_managed)
    (problem,) = caught.value.problems
    return problem


def labelled(*labels: str) -> str:
    """A manifest with these label lines."""
    return HEAD + "  labels:\n" + "".join(f"    {label}\n" for label in labels)


def with_fqdn(fqdn: str, prefix: str = FIRST) -> str:
    return labelled(f'{prefix}stack.fqdn: "{fqdn}"')


def parts(prefix: str, organization: str = "organization", project: str = "shop", stack: str = "dev") -> list[str]:
    return [f"{prefix}organization: {organization}", f"{prefix}project: {project}", f"{prefix}stack.name: {stack}"]


# --- what is accepted


def test_a_manifest_gives_its_kind_its_name_and_its_labels() -> None:
    """Kind, name and labels are read, and the text is kept to the letter."""
    text = labelled("team: shop", "tier: '2'", "year: 2026", "none:") + "# a remark\n"

    manifest = parse(text)

    assert (manifest.kind, manifest.name) == ("Demo", "sample")
    assert manifest.labels == {"team": "shop", "tier": "2", "year": "2026"}
    assert manifest.text == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEAD.replace("\n", "\r\n"), id="CRLF"),
        pytest.param("\ufeff" + HEAD, id="byte-order mark"),
        pytest.param("%YAML 1.1\n---\n" + HEAD + "...\n", id="one explicit document"),
        pytest.param("{kind: Demo, metadata: {name: sample}}", id="flow style"),
        pytest.param('{"kind": "Demo", "metadata": {"name": "sample"}}', id="JSON"),
        pytest.param(HEAD + "spec: &s {a: 1}\nmore: [*s, *s]\n", id="aliases"),
        pytest.param(HEAD + "spec: !!str 12\n", id="core tag"),
        pytest.param(HEAD + "  labels:\n", id="labels left empty"),
        pytest.param("kind: !!str Demo\nmetadata: {name: ! sample}\n", id="kind and name tagged as text"),
    ],
)
def test_every_way_to_write_a_manifest_is_accepted(text: str) -> None:
    """Whatever YAML allows for one mapping is read."""
    manifest = parse(text)

    assert (manifest.kind, manifest.name) == ("Demo", "sample")


def test_names_in_any_language_are_accepted() -> None:
    """A name is a text for people, up to its limit."""
    name = "日" * NAME_LIMIT

    assert parse(f"kind: Démo\nmetadata:\n  name: {name}\n").name == name


def test_a_manifest_of_exactly_the_limit_is_accepted() -> None:
    """256 KiB of UTF-8 is the most that is kept, and it is kept."""
    text = HEAD + "spec: " + "é" * ((MANIFEST_LIMIT - len(HEAD)) // 2 - 5)
    text += "x" * (MANIFEST_LIMIT - len(text.encode()))

    assert len(text.encode()) == 256 * 1024
    assert parse(text).name == "sample"
    (problem,) = refusal(text + "x")
    assert problem.message.startswith("The manifest has 262145 bytes; at most 262144 are kept.")


def test_nesting_up_to_the_limit_is_accepted() -> None:
    """The limit on depth is where it is said to be."""

    def nested(depth: int) -> str:
        return HEAD + "spec: " + "[" * (depth - 1) + "]" * (depth - 1)

    assert parse(nested(DEPTH_LIMIT)).name == "sample"
    (problem,) = refusal(nested(DEPTH_LIMIT + 1))
    assert (problem.line, problem.column) == (4, len("spec: ") + DEPTH_LIMIT)


# --- what is refused: the text, words of the sentence, path, line and column

NOT_A_MAPPING = "A manifest is a YAML mapping with apiVersion, kind, metadata and spec; this is "

BROKEN: dict[str, tuple[str, str, str | None, int | None, int | None]] = {
    "empty": ("", NOT_A_MAPPING + "empty.", None, None, None),
    "blank": (" \n\n", NOT_A_MAPPING + "empty.", None, None, None),
    "only a remark": ("# nothing\n", NOT_A_MAPPING + "empty.", None, None, None),
    "only a document marker": ("---\n", NOT_A_MAPPING + "empty.", None, 2, 1),
    "null": ("~\n", NOT_A_MAPPING + "empty.", None, 1, 1),
    "plain text": ("\nsome words\n", NOT_A_MAPPING + "the text 'some words'.", None, 2, 1),
    "list": ("- kind: Demo\n", NOT_A_MAPPING + "a list.", None, 1, 1),
    "number": ("12\n", NOT_A_MAPPING + "the int 12.", None, 1, 1),
    "two documents": (HEAD + "---\nkind: Other\n", "here begins a second one. Send it on its own.", None, 4, 1),
    "a second, empty document": (HEAD + "---\n", "here begins a second one.", None, 4, 1),
    "duplicate key": (HEAD + "kind: Other\n", "The key 'kind' stands twice in one mapping. Keep one.", "kind", 4, 1),
    "duplicate key, quoted": (HEAD + "spec: {a: 1, 'a': 2}\n", "The key 'a' stands twice", "spec.a", 4, 14),
    "duplicate key, nested in a list": (
        HEAD + "spec:\n  list:\n  - one: 1\n  - x: 1\n    x: 2\n",
        "The key 'x' stands twice",
        "spec.list[1].x",
        8,
        5,
    ),
    "duplicate label": (labelled("a: 1", "a: 2"), "The key 'a' stands twice", "metadata.labels.a", 6, 5),
    "a collection as a key": (HEAD + "spec:\n  ? [a, b]\n  : 1\n", "not a collection.", "spec", 5, 5),
    "alias inside its own anchor": (HEAD + "spec: &s\n  x: *s\n", "The alias *s stands inside its own", None, 5, 6),
    "alias without anchor": (HEAD + "spec: *nope\n", "The alias *nope stands inside its own", None, 4, 7),
    "Python tag": (
        HEAD + "spec: !!python/object/apply:os.system ['true']\n",
        "The tag 'tag:yaml.org,2002:python/object/apply:os.system' has no meaning in a manifest. Remove it.",
        None,
        4,
        7,
    ),
    "local tag": (HEAD + "spec: !Sub x\n", "The tag '!Sub' has no meaning in a manifest. Remove it.", None, 4, 7),
    "tag on a list": (HEAD + "spec: !Sub [x]\n", "The tag '!Sub' has no meaning", None, 4, 7),
    "tag that is no text": (HEAD + "spec: !<%ED%A0%80> x\n", "This is not YAML", None, None, None),
    "NUL": ("kind: Demo\nmetadata:\n  name: sam\0ple\n", "a control character (U+0000)", None, 3, 12),
    "control character": ("kind: Demo\nmetadata:\n  name: \x07\n", "a control character (U+0007)", None, 3, 9),
    "delete character": (HEAD + "spec: 日\x7f\n", "a control character (U+007F)", None, 4, 8),
    "high surrogate": (
        "kind: Demo\nmetadata:\n  name: a\ud800\n",
        "Here is half a surrogate pair (U+D800), which YAML does not allow.",
        None,
        3,
        10,
    ),
    "low surrogate, first": ("\udc00", "half a surrogate pair (U+DC00)", None, 1, 1),
    "escaped surrogate": (HEAD + 'spec: "\\ud800"\n', "found invalid Unicode", None, 4, 10),
    "tab as indentation": (
        "kind: Demo\nmetadata:\n\tname: sample\n",
        "found character that cannot start any token. Correct it here.",
        None,
        3,
        1,
    ),
    "open bracket": (HEAD + "spec: [a\n", "did not find expected ',' or ']'. Correct it here.", None, 5, 1),
    "open quote": (HEAD + 'spec: "a\n', "found unexpected end of stream.", None, 5, 1),
    "two colons": ("kind: Demo: x\n", "This is not YAML: mapping values are not allowed", None, 1, 11),
    "YAML of the future": ("%YAML 9.9\n---\n" + HEAD, "This is not YAML: found incompatible", None, 1, 1),
    "YAML version twice": ("%YAML 1.1\n%YAML 1.1\n---\n" + HEAD, "found duplicate %YAML directive", None, 2, 1),
    "YAML version unreadable": ("%YAML 1.x\n---\n" + HEAD, "did not find expected version number", None, 1, 9),
    "broken tag directive": ("%TAG !\n---\n" + HEAD, "This is not YAML: ", None, 1, 7),
    "unknown tag handle": ("kind: !x!y Demo\n", "found undefined tag handle.", None, 1, 7),
    "no kind": ("metadata: {name: sample}\n", "The manifest needs 'kind'.", "kind", 1, 1),
    "kind left empty": ("kind:\nmetadata: {name: a}\n", "'kind' must be a text that is not empty", "kind", 1, 6),
    "kind empty": ("kind: ''\nmetadata: {name: a}\n", "here it is the text ''.", "kind", 1, 7),
    "kind of spaces": ("kind: '  '\nmetadata: {name: a}\n", "must be a text that is not empty", "kind", 1, 7),
    "kind a number": ("kind: 12\nmetadata: {name: a}\n", "here it is the int 12.", "kind", 1, 7),
    "kind a truth": ("kind: yes\nmetadata: {name: a}\n", "here it is the bool yes.", "kind", 1, 7),
    "kind a list": ("kind: [Demo]\nmetadata: {name: a}\n", "here it is a list.", "kind", 1, 7),
    "kind on two lines": ('kind: "De\\nmo"\nmetadata: {name: a}\n', "on one line", "kind", 1, 7),
    "kind too long": (f"kind: {'D' * 254}\nmetadata: {{name: a}}\n", "'kind' has 254 characters", "kind", 1, 7),
    "no metadata": ("kind: Demo\n", "Write:\nmetadata:\n  name: my-name", "metadata", 1, 1),
    "metadata left empty": ("kind: Demo\nmetadata:\n", "The manifest needs 'metadata'", "metadata", 2, 10),
    "metadata a list": ("kind: Demo\nmetadata: [name]\n", "The manifest needs 'metadata'", "metadata", 2, 11),
    "no name": ("kind: Demo\nmetadata: {}\n", "The manifest needs 'metadata.name'.", "metadata.name", 2, 11),
    "name a date": ("kind: Demo\nmetadata: {name: 2026-01-01}\n", "the timestamp 2026-01-01.", "metadata.name", 2, 18),
    "name a mapping": ("kind: Demo\nmetadata: {name: {a: b}}\n", "here it is a mapping.", "metadata.name", 2, 18),
    "name with spaces around": ("kind: Demo\nmetadata: {name: ' a'}\n", "without a space", "metadata.name", 2, 18),
    "name with an escaped NUL": (
        'kind: Demo\nmetadata: {name: "a\\0"}\n',
        "here it is 'a\\x00'",
        "metadata.name",
        2,
        18,
    ),
    "name with a line separator": (
        'kind: Demo\nmetadata: {name: "a\\u2028b"}\n',
        "must be printable",
        "metadata.name",
        2,
        18,
    ),
    "labels a list": (
        HEAD + "  labels: [a]\n",
        "Labels are a mapping of texts; here is a list.",
        "metadata.labels",
        4,
        11,
    ),
    "label a list": (labelled("a: [b]"), "The label 'a' must be a text; it is a list.", "metadata.labels.a", 5, 8),
}


@pytest.mark.parametrize(("text", "words", "path", "line", "column"), BROKEN.values(), ids=BROKEN)
def test_a_bad_manifest_is_refused_with_a_sentence_and_a_place(
    text: str, words: str, path: str | None, line: int | None, column: int | None
) -> None:
    """Each refusal says what is wrong, and where: the place in the document, its line and its column."""
    problem = refusal(text)[0]

    assert words in problem.message
    assert (problem.path, problem.line, problem.column) == (path, line, column)


@pytest.mark.parametrize("text", [case[0] for case in BROKEN.values()], ids=BROKEN)
def test_every_sentence_ends_and_holds_nothing_of_the_machinery(text: str) -> None:
    """What people read is prose: no class names, no half sentences."""
    for problem in refusal(text):
        assert problem.message.endswith((".", "my-name"))
        assert not any(word in str(problem) + str(problem.path) for word in ("Node(", "Error", "<unicode", "object at"))


def test_a_collection_as_a_label_is_named_without_machinery() -> None:
    """A label whose key is a list is told of in words, not as the parser's objects."""
    for problem in refusal(HEAD + "  labels:\n    ? [a]\n    : [b]\n"):
        assert "Node(" not in f"{problem.message} {problem.path}"


def test_an_anchor_used_twice_is_explained() -> None:
    """The refusal of a second anchor of one name says that it is about an anchor."""
    (problem,) = refusal(HEAD + "spec: [&a 1, &a 2]\n")

    assert "anchor" in problem.message
    assert (problem.line, problem.column) == (4, 14)


def test_all_problems_are_told_at_once() -> None:
    """One answer names everything that is wrong, so that nobody corrects one thing at a time."""
    problems = refusal("kind: 1\nmetadata:\n  name: ''\n  labels: [a]\nspec: {a: 1, a: 2}\n")

    assert {problem.path for problem in problems} == {"kind", "metadata.name", "metadata.labels", "spec.a"}


def test_a_refusal_names_line_and_column() -> None:
    """The message of a refusal begins each problem with its place."""
    with pytest.raises(InvalidManifest) as caught:
        parse("kind: Demo\nmetadata:\n  name: 12\n")

    assert caught.value.message.startswith("line 3, column 9: 'metadata.name' must be a text")
    assert caught.value.code == "INVALID_MANIFEST"


# --- what would exhaust a parser


def bomb(levels: int = 9, width: int = 9) -> str:
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return HEAD + "\n".join(lines) + "\n"


DEEP = {
    "open brackets": "[" * 10_000,
    "brackets": HEAD + "spec: " + "[" * 10_000 + "]" * 10_000,
    "braces": "{a: " * 10_000 + "}" * 10_000,
    "dashes": "- " * 10_000,
    "question marks": "? " * 10_000,
    "indentation": "\n".join(" " * depth + "a:" for depth in range(700)),
    "bomb of anchors": bomb(),
    "bomb of words": HEAD + f"a: &a x\nb: &b [{'*a, ' * 1000}]\nc: [{'*b, ' * 300}]\n",
    "bomb in mappings": HEAD + "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{{', '.join(f'k{m}: *a{n - 1}' for m in range(9))}}}\n" for n in range(1, 9)
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_and_exploding_documents_are_refused_at_once(text: str) -> None:
    """What is written in kilobytes and means gigabytes, or nests without end, is refused in a moment."""
    began = time.perf_counter()

    (problem,) = refusal(text)

    assert time.perf_counter() - began < 0.5
    assert problem.line is not None
    assert "nest" in problem.message or f"over {NODE_LIMIT} values" in problem.message


LONG = f"? {'k' * KEY_LIMIT}\n: "
CROWDED = {
    "a very long key over a long list": f"? {'k' * 20_000}\n: [{'[],' * 20_000}]\n",
    "long keys in each other over a long list": ("spec: " + f"{{? {'k' * KEY_LIMIT} : " * 50)
    + f"[{'[],' * 20_000}]{'}' * 50}\n",
}


@pytest.mark.parametrize("text", CROWDED.values(), ids=CROWDED)
def test_long_keys_over_many_values_take_little_memory(text: str) -> None:
    """Reading a manifest takes memory in proportion to its text, however its keys and values are arranged."""
    tracemalloc.start()
    try:
        examine(HEAD + text, self_managed=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 100_000_000


def test_a_key_up_to_the_limit_is_accepted() -> None:
    """A longer one is refused where it stands, and shown only in part."""
    assert parse(HEAD + LONG + "1\n").name == "sample"

    (problem,) = refusal(HEAD + LONG.replace("k", "kk") + "1\n")

    assert problem.message == f"This key has {2 * KEY_LIMIT} characters; at most {KEY_LIMIT} are kept. Shorten it."
    assert (problem.line, problem.column) == (4, 3)
    assert len(problem.path or "") < KEY_LIMIT


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEAD + "spec: {" + "a: ," * 60_000 + "}\n", id="a key over and over"),
        pytest.param(HEAD + LONG + "{" + "a: ," * 50_000 + "}\n", id="under a long key"),
        pytest.param(HEAD + "spec: {" + "[]: ," * 40_000 + "}\n", id="lists as keys"),
    ],
)
def test_a_refusal_of_thousands_of_problems_is_short(text: str) -> None:
    """The first problems are told, of the others how many there are."""
    problems = refusal(text)

    assert len(problems) == PROBLEM_LIMIT + 1
    assert re.fullmatch(r"And \d{5} more are wrong\. Correct these first\.", problems[-1].message)
    assert sum(len(str(problem)) + len(problem.path or "") for problem in problems) < 20_000


def test_labels_up_to_the_limit_are_accepted() -> None:
    """More of them than a list of manifests can show are refused."""
    lines = [f"l{number}: x" for number in range(LABEL_LIMIT)]

    assert len(parse(labelled(*lines)).labels) == LABEL_LIMIT
    (problem,) = refusal(labelled(*lines, "one: more"))
    assert f"There are {LABEL_LIMIT + 1} labels; at most {LABEL_LIMIT} are kept." in problem.message
    assert problem.path == "metadata.labels"


@pytest.mark.parametrize(
    "text", [labelled(f"a: &{'k' * 9000} [*{'k' * 9000}]"), labelled(f"a: !{'k' * 9000} x"), with_fqdn("k" * 9000)]
)
def test_a_refusal_quotes_only_the_begin_of_a_long_word(text: str) -> None:
    """What somebody wrote in kilobytes is not said back to them."""
    assert len(str(examine(text, self_managed=True).problems)) < 2000


def test_aliases_count_as_much_as_what_they_stand_for() -> None:
    """A document whose aliases stay within the limit is kept, one step further it is not."""
    assert parse(bomb(levels=5)).name == "sample"  # 9 ** 5 is 59,049
    refusal(bomb(levels=6))


# --- the stack


@pytest.mark.parametrize("prefix", LABEL_PREFIXES)
def test_the_stack_is_read_under_each_prefix(prefix: str) -> None:
    """Manifests of every year of the format name their stack, as one label or as three."""
    whole = with_fqdn("organization/shop/dev", prefix)
    in_parts = labelled(*parts(prefix))

    assert stack_fqdn(parse(whole), self_managed=True) == "organization/shop/dev"
    assert stack_fqdn(parse(in_parts), self_managed=True) == "organization/shop/dev"


STACKS = {
    "the fqdn beats the parts": ([f"{FIRST}stack.fqdn: organization/a/b", *parts(FIRST)], "organization/a/b"),
    "the fqdn beats other parts": ([f"{THIRD}stack.fqdn: organization/a/b", *parts(FIRST)], "organization/a/b"),
    "an empty fqdn is none": ([f"{FIRST}stack.fqdn: ''", *parts(FIRST)], "organization/shop/dev"),
    "two prefixes that agree": (
        [f"{FIRST}stack.fqdn: organization/a/b", f"{SECOND}stack.fqdn: organization/a/b"],
        "organization/a/b",
    ),
    "incomplete parts beside complete ones": ([f"{FIRST}organization: x", *parts(SECOND)], "organization/shop/dev"),
    "parts that look like other types": ([*parts(SECOND, project="012", stack="no")], "organization/012/no"),
    "every character that Pulumi takes": ([f"{FIRST}stack.fqdn: organization/A_b.9-/.x"], "organization/A_b.9-/.x"),
    "names of 100 characters": (
        [f"{FIRST}stack.fqdn: organization/{'p' * 100}/{'s' * 100}"],
        f"organization/{'p' * 100}/{'s' * 100}",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("labels", "fqdn"), STACKS.values(), ids=STACKS)
def test_the_labels_name_one_stack(labels: list[str], fqdn: str) -> None:
    """Which label counts is settled, and the name is taken as it is written."""
    assert stack_fqdn(parse(labelled(*labels)), self_managed=True) == fqdn


def test_a_manifest_may_name_its_stack_by_an_alias() -> None:
    """A label's value may be written once and referred to."""
    text = HEAD + f"  labels:\n    x: &s organization/a/b\n    {FIRST}stack.fqdn: *s\n"

    assert stack_fqdn(parse(text), self_managed=True) == "organization/a/b"


REFUSED_STACKS = {
    "no labels": (HEAD, "The labels do not name a stack."),
    "other labels only": (labelled("team: shop"), "The labels do not name a stack."),
    "empty": (with_fqdn(""), "The labels do not name a stack."),
    "left empty": (labelled(f"{FIRST}stack.fqdn:"), "The labels do not name a stack."),
    "two of three parts": (labelled(*parts(FIRST)[:2]), "The labels do not name a stack."),
    "an empty part label": (labelled(*parts(FIRST, stack="''")), "The labels do not name a stack."),
    "parts spread over prefixes": (
        labelled(parts(FIRST)[0], parts(SECOND)[1], parts(THIRD)[2]),
        "The labels do not name a stack.",
    ),
    "prefixes that disagree": (
        labelled(f"{FIRST}stack.fqdn: organization/a/b", f"{THIRD}stack.fqdn: organization/a/c"),
        "The labels name different stacks: organization/a/b, organization/a/c. Keep one.",
    ),
    "parts that disagree": (
        labelled(*parts(FIRST), *parts(SECOND, stack="prod")),
        "The labels name different stacks: organization/shop/dev, organization/shop/prod. Keep one.",
    ),
    "one part": (with_fqdn("dev"), "The stack 'dev' has 1 parts; it needs three."),
    "two parts": (with_fqdn("shop/dev"), "The stack 'shop/dev' has 2 parts; it needs three."),
    "four parts": (with_fqdn("organization/a/b/c"), "has 4 parts; it needs three."),
    "a slash in a part": (labelled(*parts(FIRST, project="a/b")), "has 4 parts; it needs three."),
    "dots as organization": (with_fqdn("../shop/dev"), "The organization name '..' is not one that Pulumi takes"),
    "dots as project": (with_fqdn("organization/../dev"), "The project name '..' is not one that Pulumi takes"),
    "dots as stack": (with_fqdn("organization/shop/.."), "The stack name '..' is not one that Pulumi takes"),
    "a dot": (with_fqdn("organization/shop/."), "and not only dots."),
    "a flag as organization": (with_fqdn("--help/shop/dev"), "not beginning with '-'"),
    "a flag as project": (with_fqdn("organization/-p/dev"), "The project name '-p' is not one"),
    "a flag as stack": (with_fqdn("organization/shop/-s"), "The stack name '-s' is not one"),
    "a space inside": (with_fqdn("organization/my shop/dev"), "The project name 'my shop' is not one"),
    "a space before": (with_fqdn(" organization/shop/dev"), "The organization name ' organization' is not one"),
    "a space after": (with_fqdn("organization/shop/dev "), "The stack name 'dev ' is not one"),
    "a line break after": (with_fqdn("organization/shop/dev\\n"), "The stack name 'dev\\n' is not one"),
    "an empty part": (with_fqdn("organization//dev"), "The project name '' is not one"),
    "101 characters": (with_fqdn("organization/shop/" + "s" * 101), "is not one that Pulumi takes: 1 to 100 letters"),
    "other letters": (with_fqdn("organization/shóp/dev"), "The project name 'shóp' is not one"),
    "other digits": (with_fqdn("organization/shop/٣"), "The stack name '٣' is not one"),
    "a backslash": (with_fqdn("organization/shop/a\\\\b"), "is not one that Pulumi takes"),
    "NUL": (with_fqdn("organization/shop/a\\0"), "The stack name 'a\\x00' is not one"),
    "another organization": (
        with_fqdn("acme/shop/dev"),
        "Pulumi's self-managed backend knows only the organization named 'organization', not 'acme'.",
    ),
}


@pytest.mark.parametrize(("text", "words"), REFUSED_STACKS.values(), ids=REFUSED_STACKS)
def test_a_stack_that_pulumi_would_not_take_is_refused(text: str, words: str) -> None:
    """What is wrong with the labels is said, at the labels, before Pulumi sees them."""
    problem = refused_stack(text)

    assert words in problem.message
    assert problem.path == "metadata.labels"
    assert problem.line == (5 if "labels:" in text else 3)


@pytest.mark.parametrize("text", [case[0] for case in REFUSED_STACKS.values()], ids=REFUSED_STACKS)
def test_the_lines_that_a_refusal_names_are_accepted(text: str) -> None:
    """Whoever pastes the lines of the refusal into a manifest has one that can be deployed, with either set."""
    sets = list(suggested_labels(refused_stack(text).message))

    assert len(sets) == 2
    for lines in sets:
        manifest = parse(f"kind: Demo\n{lines}\n  name: sample\n")
        assert examine(manifest.text, self_managed=True).problems == ()


def suggested_labels(message: str) -> Iterator[str]:
    """The metadata with one label, and the same with the three in its place."""
    whole, separator, three = message.partition("\nor, in place of that label, these three:\n")
    assert separator
    block = whole[whole.index("metadata:\n") :]
    yield block
    yield "\n".join(block.splitlines()[:-1]) + "\n" + three


def test_a_refusal_of_the_organization_keeps_project_and_stack() -> None:
    """The lines to write hold what was right already."""
    message = refused_stack(with_fqdn("acme/shop/dev")).message

    assert f'    {FIRST}stack.fqdn: "organization/shop/dev"' in message
    assert f'    {FIRST}project: "shop"' in message


def test_a_cloud_backend_takes_any_organization() -> None:
    """Only self-managed backends insist on the organization's name."""
    assert stack_fqdn(parse(with_fqdn("acme/shop/dev")), self_managed=False) == "acme/shop/dev"
    assert "'-acme'" in refused_stack(with_fqdn("-acme/shop/dev"), self_managed=False).message


# --- examining what is stored


@pytest.mark.parametrize("text", [case[0] for case in BROKEN.values()], ids=BROKEN)
def test_examining_a_broken_manifest_tells_its_problems(text: str) -> None:
    """Whatever other programs stored, a list of cloud resources can be shown."""
    examination = examine(text, self_managed=True)

    assert examination.problems
    assert (examination.stack_fqdn, examination.labels) == (None, {})


@pytest.mark.parametrize("text", [*DEEP.values(), "x" * (MANIFEST_LIMIT + 1)], ids=[*DEEP, "too long"])
def test_examining_an_absurd_manifest_tells_its_problems(text: str) -> None:
    """No stored text is absurd enough to raise."""
    assert examine(text, self_managed=True).problems


def test_examining_tells_the_stack_or_why_there_is_none() -> None:
    """A manifest that can be kept but not deployed still shows its labels."""
    assert examine(with_fqdn("organization/shop/dev"), self_managed=True).stack_fqdn == "organization/shop/dev"

    undeployable = examine(labelled("team: shop"), self_managed=True)

    assert undeployable.labels == {"team": "shop"}
    assert undeployable.stack_fqdn is None
    assert [problem.path for problem in undeployable.problems] == ["metadata.labels"]


def test_examining_knows_both_kinds_of_backend() -> None:
    """What is remembered of one backend's rules is not taken for the other's."""
    text = with_fqdn("acme/shop/dev")

    assert examine(text, self_managed=False).stack_fqdn == "acme/shop/dev"
    assert examine(text, self_managed=True).stack_fqdn is None


# --- the stack input

AS_WRITTEN = {
    "a country": "country: no",
    "an octal": "id: 012",
    "a date": "since: 2026-01-01",
    "a time": "at: 12:30:45",
    "a long number": "account: 123456789012345678901234567890",
    "a number with an exponent": "ratio: 1e3",
    "an underscore": "count: 1_000",
    "null": "nothing: ~",
    "single quotes": "q: 'it''s no'",
    "double quotes": 'q: "a\\tb\\u00e9\\0"',
    "quoted number": "q: '012'",
    "literal block": "cert: |\n    -----BEGIN-----\n      indented\n\n    -----END-----",
    "literal block, stripped": "x: |-\n    a\n    b",
    "literal block, kept": "x: |+\n    a\n\n\n  y: 1",
    "literal block with indicator": "x: |2\n      a\n     b",
    "folded block": "x: >\n    some words\n    and more\n\n    another",
    "folded block, long line": "x: >\n    " + "word " * 60 + "end",
    "folded block, long indented line": "x: >\n    first\n      " + "y" * 90 + " and more",
    "plain text over two lines": "x: some words\n    and more",
    "long plain text": "x: " + "word " * 60 + "end",
    "long quoted text": "x: '" + "word  " * 60 + "end'",
    "other languages": "greeting: Grüße, 日本, עברית",
    "beyond the basic plane": "greeting: 😀 x",
    "odd spaces": 'x: "\\u00a0\\u2028\\u0085\\ufeff"',
    "a colon": "url: https://example.com:443/#x",
    "explicit tag": "x: !!str 012",
    "merge": "base: &b {x: no}\n  more:\n    <<: *b",
    "aliases": "a: &a [no, 012]\n  b: *a\n  c: {d: *a}",
    "empty collections": "a: {}\n  b: []",
    "odd keys": "012: a\n  no: b\n  'a b': c\n  ? x\n  : d",
    "long key": f"{'k' * 200}: v",
}


@pytest.mark.parametrize("spec", AS_WRITTEN.values(), ids=AS_WRITTEN)
def test_the_module_sees_the_manifest_as_it_was_written(spec: str) -> None:
    """No value is read and written anew: types, numbers, texts and their order reach the module unchanged."""
    manifest = parse(HEAD + f"spec:\n  {spec}\n")

    target = nodes(stack_input(manifest)).value[0][1]

    assert written(target) == written(nodes(manifest.text))


def nodes(text: str) -> yaml.Node:
    node = yaml.compose(text, Loader=yaml.CSafeLoader)
    assert node
    return node


def written(node: yaml.Node) -> object:
    """What a node says, with the type that YAML gives it; an alias as what it stands for."""
    if isinstance(node, yaml.MappingNode):
        return (node.tag, [(written(key), written(value)) for key, value in node.value])
    return (node.tag, [written(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else node.value)


@pytest.mark.parametrize(
    "line", ["country: no", "id: 012", "q: '012'", 'q: "no"', "since: 2026-01-01", "greeting: Grüße, 日本"]
)
def test_plain_lines_stay_to_the_letter(line: str) -> None:
    """What needs no other form keeps its form, so that modules with another YAML library read it alike."""
    assert f"    {line}\n" in stack_input(parse(HEAD + f"spec:\n  {line}\n"))


def test_the_stack_input_has_two_members() -> None:
    """A module finds ``target`` and ``provider_config``, and nothing else."""
    document = yaml.safe_load(stack_input(parse(HEAD + "target: 1\nprovider_config: 2\n")))

    assert list(document) == ["target", "provider_config"]
    assert document["provider_config"] is None
    assert document["target"]["metadata"] == {"name": "sample"}
    assert document["target"]["provider_config"] == 2


def test_the_stack_input_of_a_manifest_in_flow_style_is_yaml() -> None:
    """A manifest written as JSON is a target like any other."""
    document = yaml.safe_load(
        stack_input(parse('{"kind": "Demo", "metadata": {"name": "sample"}, "spec": {"a": [1]}}'))
    )

    assert document["target"] == {"kind": "Demo", "metadata": {"name": "sample"}, "spec": {"a": [1]}}
