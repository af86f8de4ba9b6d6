"""Real Pulumi modules for the tests: YAML programs that a small Python script writes as the manifest's spec asks.

fail: a sentence with which the program's second call fails    sleep: seconds that it takes then
missing: true asks for a resource that does not exist          deaf: true ignores signals while it sleeps
say: a text that becomes an output, beside `who`, the manifest's name
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

PROGRAM = """
import os, signal, sys, time, yaml
text = os.environ.get("STACK_INPUT_YAML") or open(os.environ["STACK_INPUT_YAML_FILE"]).read()
target = yaml.safe_load(text)["target"]
spec = target.get("spec") or {}
if "PULUMI_STACK" in os.environ:
    open(os.path.join(os.environ["TMPDIR"], "ran-" + target["metadata"]["name"]), "a").write("x")
    if spec.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(spec.get("sleep", 0))
    if "fail" in spec:
        sys.exit(spec["fail"])
program = {"outputs": {"who": target["metadata"]["name"], "say": spec.get("say", "")}}
if spec.get("missing"):
    program["resources"] = {"x": {"type": "nowhere:index:Nothing"}}
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
