"""Real Pulumi modules for the tests: YAML programs that a small Python script writes as the manifest's spec asks.

fail: a sentence with which the program's second call fails    sleep: seconds that it takes then
missing: true asks for a resource that does not exist          deaf: true ignores signals while it sleeps
say: a text that becomes an output, beside `who`, the manifest's name
discover: seconds that the program's first call takes
lines: how many lines of 60 bytes it logs then                 long: how long the one line is that it logs
secret: a text that becomes a secret output
dirty: true logs, and with `fail` fails with, bytes that are no text
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

#: Bytes that are not UTF-8, a NUL and a terminal's colours, between words that are to be found again.
DIRT = b"before \xff\xfe\xc3( \x00 \x1b[31mred\x1b[0m after"

PROGRAM = f"""
import os, signal, sys, time, yaml
text = os.environ.get("STACK_INPUT_YAML") or open(os.environ["STACK_INPUT_YAML_FILE"]).read()
target = yaml.safe_load(text)["target"]
spec = target.get("spec") or {{}}

def note(moment):
    open(os.path.join(os.environ["TMPDIR"], moment + "-" + target["metadata"]["name"]), "a").write("x")

def log(content):
    # What the language host, our parent, finds on its standard error becomes log lines of the engine.
    with open(f"/proc/{{os.getppid()}}/fd/2", "wb", buffering=0) as stream:
        while content:
            content = content[stream.write(content):]

if "PULUMI_STACK" not in os.environ:
    note("discovered")
    time.sleep(spec.get("discover", 0))
else:
    note("ran")
    if spec.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "lines" in spec:
        log(b"".join(b"line %07d %s\\n" % (number, b"." * 46) for number in range(spec["lines"])))
    if "long" in spec:
        log(b"L" * spec["long"] + b" the end of the long line\\n")
    if spec.get("dirty"):
        log({DIRT!r} + b"\\n")
    time.sleep(spec.get("sleep", 0))
    if "fail" in spec:
        sys.stderr.buffer.write(spec["fail"].encode() + ({DIRT!r} if spec.get("dirty") else b"") + b"\\n")
        sys.exit(1)
program = {{"outputs": {{"who": target["metadata"]["name"], "say": spec.get("say", "")}}}}
if "secret" in spec:
    program["outputs"]["hidden"] = {{"fn::secret": spec["secret"]}}
if spec.get("missing"):
    program["resources"] = {{"x": {{"type": "nowhere:index:Nothing"}}}}
yaml.safe_dump(program, sys.stdout)
"""


def write_module(modules: Path, kind: str = "Thing") -> Path:
    """Make the module for a kind."""
    directory = modules / kind.lower()
    directory.mkdir(parents=True)
    (directory / "program.py").write_text(PROGRAM)
    compiler = shlex.join([sys.executable, "program.py"])
    options = f"runtime:\n  name: yaml\n  options:\n    compiler: {compiler}\n"
    (directory / "Pulumi.yaml").write_text(f"name: replaced\n{options}")
    return directory
