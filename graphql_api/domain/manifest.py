"""A manifest: YAML text in, its kind, name, labels and stack out; every problem with its line and column.

The text is never turned into Python values and back: the document's nodes are kept as they were written, so
that ``country: no`` or ``012`` reaches the module exactly as the author wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import yaml
from yaml import CSafeDumper, CSafeLoader
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from graphql_api.domain.errors import InvalidManifest, ManifestProblem
from graphql_api.domain.records import StackFqdn

#: The longest manifest that is kept, in bytes of UTF-8.
MANIFEST_LIMIT = 256 * 1024
#: How deep collections may nest; far beyond any manifest, far below what exhausts a parser's stack.
DEPTH_LIMIT = 64
#: How many nodes a manifest may have once its aliases are followed.
NODE_LIMIT = 200_000
#: Kinds and names are shown in lists and compared; 253 is Kubernetes' limit for a name.
NAME_LIMIT = 253
#: The longest key, in characters: as much as YAML allows a key that is not marked with a question mark.
KEY_LIMIT = 1024
#: How many labels a manifest may have: they are shown in lists of manifests.
LABEL_LIMIT = 256
#: How many problems a refusal tells in full.
PROBLEM_LIMIT = 20

#: The prefixes under which the labels of a stack are read, newest last: one for each name that the format has had.
LABEL_PREFIXES = ("pulumi.project-planton.org/", "pulumi.openmcf.org/", "pulumi.planton.dev/")

#: Pulumi's rule for the names of projects and stacks (its sdk/go/common/tokens), without a leading hyphen, which
#: could be taken for a flag.
_PULUMI_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,100}\Z")
_CORE_TAG = "tag:yaml.org,2002:"
#: Everything outside YAML's printable characters (YAML 1.1, production c-printable); surrogates are among them.
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: How much of a manifest's word is quoted in a sentence, in characters: any valid name of a stack as a whole.
_SHOWN = 320


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that may be kept: one YAML mapping with a kind and a name."""

    text: str
    kind: str
    name: str
    labels: Mapping[str, str]
    document: MappingNode

    def label_problem(self, message: str) -> ManifestProblem:
        """A problem with the stack labels, placed where labels stand or should stand."""
        metadata = _member(self.document, "metadata")
        place = (_member(metadata, "labels") if isinstance(metadata, MappingNode) else None) or metadata
        return _problem(message, "metadata.labels", place or self.document)


def parse(text: str) -> Manifest:
    """Read a manifest. Raises InvalidManifest with everything that is wrong with it."""
    _check_text(text)
    document = _read_document(text)
    problems = _Problems()
    _check_keys(document, problems)
    kind = _required_text(document, "kind", "kind", problems)
    metadata = _member(document, "metadata")
    name, labels = "", {}
    if isinstance(metadata, MappingNode):
        name = _required_text(metadata, "name", "metadata.name", problems)
        labels = _read_labels(metadata, problems)
    else:
        problems.add(
            "The manifest needs 'metadata' with a 'name'. Write:\nmetadata:\n  name: my-name",
            "metadata",
            metadata or document,
        )
    problems.refuse_any()
    return Manifest(text=text, kind=kind, name=name, labels=labels, document=document)


def stack_fqdn(manifest: Manifest, *, self_managed: bool) -> StackFqdn:
    """The stack that the manifest's labels name. Raises InvalidManifest with the label lines to write.

    ``self_managed`` says that Pulumi's backend is a file or a bucket, where the organization has to be the
    literal word ``organization``.
    """
    fqdn = _labelled_fqdn(manifest)
    parts = fqdn.split("/")
    if len(parts) != 3:
        raise _stack_refused(manifest, f"The stack {_short(fqdn)!r} has {len(parts)} parts; it needs three.")
    for what, part in zip(("organization", "project", "stack"), parts, strict=True):
        if not _PULUMI_NAME.match(part) or not part.strip("."):
            raise _stack_refused(
                manifest,
                f"The {what} name {_short(part)!r} is not one that Pulumi takes: 1 to 100 letters, digits, '_', '.' or "
                "'-', not beginning with '-' and not only dots.",
            )
    if self_managed and parts[0] != "organization":
        raise _stack_refused(
            manifest,
            f"Pulumi's self-managed backend knows only the organization named 'organization', not {parts[0]!r}.",
            example=f"organization/{parts[1]}/{parts[2]}",
        )
    return StackFqdn(fqdn)


@dataclass(frozen=True, slots=True)
class Examination:
    """What a kept manifest says of its deployment: ``problems`` is empty exactly when ``stack_fqdn`` is known."""

    labels: Mapping[str, str]
    stack_fqdn: StackFqdn | None
    problems: tuple[ManifestProblem, ...]


@lru_cache(maxsize=256)
def examine(text: str, *, self_managed: bool) -> Examination:
    """Say whether a manifest could be deployed as it is. Never raises: what other programs stored may be anything."""
    try:
        manifest = parse(text)
    except InvalidManifest as refusal:
        return Examination({}, None, refusal.problems)
    try:
        return Examination(manifest.labels, stack_fqdn(manifest, self_managed=self_managed), ())
    except InvalidManifest as refusal:
        return Examination(manifest.labels, None, refusal.problems)


def stack_input(manifest: Manifest) -> str:
    """The YAML that a module reads as its input: ``target``, the manifest as accepted, and ``provider_config``."""
    null = ScalarNode(_CORE_TAG + "null", "null")
    members = [(_text_node("target"), manifest.document), (_text_node("provider_config"), null)]
    serialized: str = yaml.serialize(
        MappingNode(_CORE_TAG + "map", members, flow_style=False),
        Dumper=CSafeDumper,
        allow_unicode=True,
        width=2 * MANIFEST_LIMIT,  # folding a line anew could change a block's text
    )
    return serialized


def _labelled_fqdn(manifest: Manifest) -> str:
    whole = {prefix: manifest.labels.get(prefix + "stack.fqdn", "") for prefix in LABEL_PREFIXES}
    parts = {
        prefix: "/".join(found)
        for prefix in LABEL_PREFIXES
        if all(found := [manifest.labels.get(prefix + part, "") for part in ("organization", "project", "stack.name")])
    }
    named = sorted({fqdn for fqdn in whole.values() if fqdn} or set(parts.values()))
    if not named:
        raise _stack_refused(manifest, "The labels do not name a stack.")
    if len(named) > 1:
        raise _stack_refused(manifest, f"The labels name different stacks: {', '.join(map(_short, named))}. Keep one.")
    return named[0]


def _stack_refused(manifest: Manifest, why: str, example: str = "organization/my-project/my-stack") -> InvalidManifest:
    organization, project, stack = example.split("/")
    prefix = LABEL_PREFIXES[0]
    lines = f'metadata:\n  labels:\n    {prefix}stack.fqdn: "{example}"'
    instead = "\n".join(
        f'    {prefix}{part}: "{value}"'
        for part, value in (("organization", organization), ("project", project), ("stack.name", stack))
    )
    return InvalidManifest(
        [manifest.label_problem(f"{why} Write:\n{lines}\nor, in place of that label, these three:\n{instead}")]
    )


def _check_text(text: str) -> None:
    if found := _NOT_YAML.search(text):
        raise InvalidManifest([_bad_character(text, found.start())])
    size = len(text.encode())
    if size > MANIFEST_LIMIT:
        raise InvalidManifest(
            [ManifestProblem(f"The manifest has {size} bytes; at most {MANIFEST_LIMIT} are kept. Make it shorter.")]
        )


def _bad_character(text: str, position: int) -> ManifestProblem:
    code = ord(text[position])
    what = "half a surrogate pair" if 0xD800 <= code <= 0xDFFF else "a control character"
    return ManifestProblem(
        f"Here is {what} (U+{code:04X}), which YAML does not allow. Remove it, or send the manifest as UTF-8.",
        line=text.count("\n", 0, position) + 1,
        column=position - text.rfind("\n", 0, position),
    )


def _read_document(text: str) -> MappingNode:
    try:
        _check_shape(text)
        document = yaml.compose(text, Loader=CSafeLoader)
    except yaml.MarkedYAMLError as error:
        raise InvalidManifest([_syntax_problem(error)]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # the latter for a tag with escapes that are no UTF-8
        raise InvalidManifest([ManifestProblem(f"This is not YAML: {str(error).splitlines()[0]}.")]) from error
    if not isinstance(document, MappingNode):
        message = "A manifest is a YAML mapping with apiVersion, kind, metadata and spec; this is "
        raise InvalidManifest([_problem(message + _describe(document) + ".", None, document)])
    return document


def _syntax_problem(error: yaml.MarkedYAMLError) -> ManifestProblem:
    sentence = f"This is not YAML: {', '.join(filter(None, (error.context, error.problem)))}. Correct it here."
    mark = error.problem_mark or error.context_mark
    return ManifestProblem(sentence, line=mark.line + 1, column=mark.column + 1) if mark else ManifestProblem(sentence)


def _check_shape(text: str) -> None:
    """Refuse, before any tree is built, what would be too deep or too large to build, or is not one document."""
    shape = _Shape()
    for event in yaml.parse(text, Loader=CSafeLoader):
        shape.take(event)


class _Shape:
    """The size of a document as its events come by; an alias counts as much as what it stands for."""

    def __init__(self) -> None:
        self._documents = 0
        self._size = 0
        self._anchored: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = []

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _refuse("A manifest is one YAML document; here begins a second one. Send it on its own.", event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.NodeEvent):
            self._node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        if self._size > NODE_LIMIT:
            raise _refuse(f"With its aliases followed the manifest has over {NODE_LIMIT} values. Use fewer.", event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchored:
            raise _refuse(f"The alias *{_short(event.anchor or '')} stands inside its own anchor, or has none.", event)
        self._size += self._anchored[event.anchor]

    def _node(self, event: yaml.NodeEvent) -> None:
        _check_tag(event)
        self._size += 1
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append((event.anchor, self._size))
            if len(self._open) > DEPTH_LIMIT:
                raise _refuse(f"Collections nest deeper than {DEPTH_LIMIT} here. Flatten the manifest.", event)
        elif event.anchor:
            self._anchored[event.anchor] = 1

    def _end(self) -> None:
        anchor, before = self._open.pop()
        if anchor:
            self._anchored[anchor] = self._size - before + 1


def _check_tag(event: yaml.NodeEvent) -> None:
    tag = getattr(event, "tag", None)
    if tag and tag != "!" and not (tag.startswith(_CORE_TAG) and "/" not in tag):
        raise _refuse(f"The tag {_short(tag)!r} has no meaning in a manifest. Remove it.", event)


def _refuse(message: str, event: yaml.Event) -> InvalidManifest:
    mark = event.start_mark
    return InvalidManifest([ManifestProblem(message, None, *((mark.line + 1, mark.column + 1) if mark else ()))])


class _Problems:
    """What is wrong: the first PROBLEM_LIMIT things in full, of all others only how many there are."""

    def __init__(self) -> None:
        self._told: list[ManifestProblem] = []
        self._untold = 0

    def add(self, message: str, place: _Place | str | None, node: Node) -> None:
        if len(self._told) < PROBLEM_LIMIT:
            self._told.append(_problem(message, None if place is None else str(place), node))
        else:
            self._untold += 1

    def refuse_any(self) -> None:
        """Raises InvalidManifest when anything is wrong."""
        if self._untold:
            self._told.append(ManifestProblem(f"And {self._untold} more are wrong. Correct these first."))
        if self._told:
            raise InvalidManifest(self._told)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the document a value stands.

    Written out only when there is a problem: the texts of all places could take megabytes for each kilobyte.
    """

    outer: _Place | None
    step: str | int

    def __str__(self) -> str:
        if isinstance(self.step, int):
            return f"{self.outer or ''}[{self.step}]"
        return f"{self.outer}.{_short(self.step)}" if self.outer else _short(self.step)


def _check_keys(document: MappingNode, problems: _Problems) -> None:
    """Every mapping's keys are texts, not too long, and different."""
    seen: set[int] = set()
    waiting: list[tuple[Node, _Place | None]] = [(document, None)]
    while waiting:
        node, place = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            members: Iterable[tuple[_Place, Node]] = (
                (_Place(place, index), item) for index, item in enumerate(node.value)
            )
        else:
            members = _keyed(node, place, problems)
        waiting.extend((value, inner) for inner, value in members if not isinstance(value, ScalarNode))


def _keyed(node: Node, place: _Place | None, problems: _Problems) -> Iterator[tuple[_Place, Node]]:
    """The values of a mapping, each with its place."""
    keys: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            problems.add("A key is a plain word or a quoted text, not a collection.", place, key)
            continue
        inner = _Place(place, key.value)
        if len(key.value) > KEY_LIMIT:
            size = len(key.value)
            problems.add(f"This key has {size} characters; at most {KEY_LIMIT} are kept. Shorten it.", inner, key)
        elif key.value in keys:
            problems.add(f"The key {_short(key.value)!r} stands twice in one mapping. Keep one.", inner, key)
        keys.add(key.value)
        yield inner, value


def _required_text(mapping: MappingNode, key: str, path: str, problems: _Problems) -> str:
    node = _member(mapping, key)
    fault = None
    if node is None:
        fault = f"The manifest needs {path!r}. Write {key}: and a name of your choice."
    elif not isinstance(node, ScalarNode) or node.tag != _CORE_TAG + "str" or not node.value.strip():
        fault = f"{path!r} must be a text that is not empty; here it is {_describe(node)}."
    elif len(node.value) > NAME_LIMIT:
        fault = f"{path!r} has {len(node.value)} characters; at most {NAME_LIMIT} are kept."
    elif _UNPRINTABLE.search(node.value) or node.value != node.value.strip():
        fault = f"{path!r} must be printable, on one line, without a space at its ends; here it is {node.value!r}."
    if fault:
        problems.add(fault, path, node or mapping)
        return ""
    assert isinstance(node, ScalarNode)  # noqa: S101 (for the type checker: every other case is a fault above)
    return str(node.value)


def _read_labels(metadata: MappingNode, problems: _Problems) -> dict[str, str]:
    node = _member(metadata, "labels")
    if node is None or (isinstance(node, ScalarNode) and node.tag == _CORE_TAG + "null"):
        return {}
    if not isinstance(node, MappingNode):
        problems.add(f"Labels are a mapping of texts; here is {_describe(node)}.", "metadata.labels", node)
        return {}
    if len(node.value) > LABEL_LIMIT:
        message = f"There are {len(node.value)} labels; at most {LABEL_LIMIT} are kept. Move the others into the spec."
        problems.add(message, "metadata.labels", node)
        return {}
    labels = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            continue  # a problem of its own, found wherever it stands
        if not isinstance(value, ScalarNode):
            name = _short(key.value)
            message = f"The label {name!r} must be a text; it is {_describe(value)}."
            problems.add(message, f"metadata.labels.{name}", value)
        elif value.tag != _CORE_TAG + "null":
            labels[str(key.value)] = str(value.value)
    return labels


def _member(mapping: MappingNode, key: str) -> Node | None:
    return next((value for name, value in mapping.value if isinstance(name, ScalarNode) and name.value == key), None)


def _text_node(text: str) -> ScalarNode:
    return ScalarNode(_CORE_TAG + "str", text)


def _short(text: str) -> str:
    """As much of a text as a sentence can show."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _describe(node: Node | None) -> str:
    if node is None:
        return "empty"
    if isinstance(node, ScalarNode):
        words = {"null": "empty", "str": f"the text {node.value[:40]!r}"}
        return words.get(node.tag.removeprefix(_CORE_TAG), f"the {node.tag.removeprefix(_CORE_TAG)} {node.value[:40]}")
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


def _problem(message: str, path: str | None, node: Node | None) -> ManifestProblem:
    if node is None:
        return ManifestProblem(message, path)
    return ManifestProblem(message, path, line=node.start_mark.line + 1, column=node.start_mark.column + 1)
