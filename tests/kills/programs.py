"""A Pulumi, and a module for the real one, that tell when they run, and whether they are alone on their stack.

In the directory that TMPDIR names stand:

    note-NAME     `begun` each time that the program of this manifest ran, `done` each time it came to its end
    go-NAME       lets a held program end
    alone-STACK   who runs on the stack, as long as it does
    not-alone     one line for each who found another alive there
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests import fake_pulumi

ROOT = Path(__file__).parents[2]


def install(directory: Path) -> None:
    """Make the stand-in `pulumi` in the directory, run by this test's Python."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "pulumi"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.kills.programs import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    path.chmod(0o755)


def main(arguments: list[str]) -> int:
    """The stand-in, which does what the spec of the manifest says."""
    if "--stack" not in arguments:
        return fake_pulumi.main(arguments)
    directory = Path(os.environ["TMPDIR"])
    with alone(directory, arguments[arguments.index("--stack") + 1]):
        if arguments[0] == "up":
            target = yaml.safe_load(os.environ["STACK_INPUT_YAML"])["target"]
            note, release = (of(directory, target["metadata"]["name"]) for of in (note_of, release_of))
            plan = {**target["spec"], "note": str(note), "until": str(release)}
            Path("fake.yaml").write_text(yaml.safe_dump(plan))
        return fake_pulumi.main(arguments)


def note_of(directory: Path, name: str) -> Path:
    """Where the program of the manifest with this name tells that it runs."""
    return directory / f"note-{name}"


def release_of(directory: Path, name: str) -> Path:
    """What lets the held program of this manifest end, once it is there."""
    return directory / f"go-{name}"


def complaints(directory: Path) -> Path:
    """Where those who were not alone tell it."""
    return directory / "not-alone"


@contextmanager
def alone(directory: Path, stack: str) -> Iterator[None]:
    """Hold the stack's mark; who finds another alive in it complains, and goes on."""
    mark = directory / f"alone-{stack.replace('/', '-')}"
    me = f"{os.getpid()} {_start_of(os.getpid())}"
    draft = directory / f"draft-{os.getpid()}"
    draft.write_text(me)
    while True:
        try:
            mark.hardlink_to(draft)  # as O_EXCL, and with its content from the first moment
        except FileExistsError:
            holder = _read(mark)
            if holder and _start_of(int(holder.split()[0])) == int(holder.split()[1]):
                with complaints(directory).open("a") as file:
                    file.write(f"{me} found {holder} on {stack}\n")
                break
            mark.unlink(missing_ok=True)
        else:
            break
    draft.unlink()
    try:
        yield
    finally:
        if _read(mark) == me:
            mark.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _start_of(pid: int) -> int:
    """When a process started, in the kernel's ticks; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


#: How many files a module has beside its program; copying each takes a tenth of a millisecond.
FILES = 300
#: The program of a YAML module; the language host calls it twice, the second time with the stack's name.
_PROGRAM = f"""
import os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import yaml
from tests.kills.programs import alone, note_of, release_of

text = os.environ.get("STACK_INPUT_YAML") or open(os.environ["STACK_INPUT_YAML_FILE"]).read()
target = yaml.safe_load(text)["target"]
spec, directory = target["spec"], Path(os.environ["TMPDIR"])

def note(word):
    with note_of(directory, target["metadata"]["name"]).open("a") as file:
        file.write(word + "\\n")

def log(number):
    # What the language host, our parent, finds on its standard error becomes log lines of the engine.
    with open(f"/proc/{{os.getppid()}}/fd/2", "wb", buffering=0) as stream:
        stream.write(b"line %d\\n" % number)

if "PULUMI_STACK" in os.environ:
    with alone(directory, os.environ["PULUMI_STACK"]):
        note("begun")
        if spec.get("ignore"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for number in range(spec.get("lines", 0)):
            log(number)
            time.sleep(spec.get("every", 0))
        end = time.monotonic() + spec.get("sleep", 0)
        while time.monotonic() < end and not release_of(directory, target["metadata"]["name"]).exists():
            time.sleep(0.01)
        note("done")
        if "error" in spec:
            sys.exit(spec["error"])
yaml.safe_dump({{"outputs": {{"who": target["metadata"]["name"]}}}}, sys.stdout)
"""


def write_module(modules: Path, kind: str = "Thing") -> None:
    """Make the module for a kind; the stand-in needs none of its program.

    With so many files, copying it takes long enough to be hit by a kill.
    """
    directory = modules / kind.lower()
    (directory / "data").mkdir(parents=True)
    for number in range(FILES):
        (directory / "data" / f"{number}").touch()
    (directory / "program.py").write_text(_PROGRAM)
    compiler = shlex.join([sys.executable, "program.py"])
    options = f"runtime:\n  name: yaml\n  options:\n    compiler: {compiler}\n"
    (directory / "Pulumi.yaml").write_text(f"name: replaced\n{options}")
