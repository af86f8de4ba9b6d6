"""Finding a Pulumi CLI and building one, with commands of our own in place of `pulumi` and `go`."""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import stat
import sys
import textwrap
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from graphql_api.domain.errors import PulumiNotFound
from runners import toolchain
from runners.toolchain import (
    BUILT_VERSION,
    Finder,
    GoProgram,
    PulumiCli,
    ToolchainError,
    build,
    cache_directory,
    find,
    go_build,
)
from runners.toolchain.ask import ask
from runners.toolchain.cli import FAILURE_MEMORY
from runners.toolchain.go import OLDEST_GO
from tests.runner.waiting import eventually

PATIENCE = timedelta(seconds=20)  # only a failing test waits that long
MOMENT = timedelta(milliseconds=50)
SOURCE = Path(toolchain.__file__).parent


def command(path: Path, body: str) -> Path:
    """Write an executable Python program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(f"#!{sys.executable} -IS\nimport os, sys, time\n{textwrap.dedent(body)}")
    draft.chmod(0o755)
    return draft.rename(path)


def pulumi(path: Path, version: str = "v3.206.0") -> Path:
    """Write a `pulumi` that knows its version and counts in a file beside it how often it was asked."""
    asked = path.with_suffix(".asked")
    return command(
        path,
        f"""
        assert sys.argv[1:] == ["version"], sys.argv
        open({str(asked)!r}, "a").write("x")
        print({version!r})
        """,
    )


def entries(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def times_asked(path: Path) -> int:
    return len(path.with_suffix(".asked").read_text())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class TestCacheDirectory:
    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"XDG_CACHE_HOME": "/caches", "HOME": "/home/ann"}, "/caches/stackcast"),
            ({"HOME": "/home/ann"}, "/home/ann/.cache/stackcast"),
            ({"XDG_CACHE_HOME": "", "HOME": "/home/ann"}, "/home/ann/.cache/stackcast"),
            ({"XDG_CACHE_HOME": "relative", "HOME": "/home/ann"}, "/home/ann/.cache/stackcast"),
        ],
    )
    def test_it_follows_the_environment(self, environ: dict[str, str], expected: str) -> None:
        """XDG_CACHE_HOME comes first, if it is absolute, then HOME."""
        assert cache_directory(environ) == Path(expected)

    def test_without_an_environment_it_is_in_the_users_home(self) -> None:
        """The account's home directory serves where HOME is not set."""
        assert cache_directory({}).parts[-2:] == (".cache", "stackcast")
        assert cache_directory({}).is_absolute()


class TestAsk:
    async def test_the_answer_is_the_stripped_stdout(self, tmp_path: Path) -> None:
        """What a command says on stderr is no part of its answer."""
        path = command(tmp_path / "tool", "print('warning', file=sys.stderr); print('  v1  ')")
        assert await ask([str(path)], {}, PATIENCE) == "v1"

    async def test_the_environment_is_exactly_the_given_one(self, tmp_path: Path) -> None:
        """Nothing of our own environment reaches the command."""
        path = command(tmp_path / "tool", "print(sorted(set(os.environ) - {'LC_CTYPE'}))")
        assert await ask([str(path)], {"A": "1"}, PATIENCE) == "['A']"

    async def test_a_failure_quotes_the_last_line_of_stderr(self, tmp_path: Path) -> None:
        """A command that fails gives a sentence with its status and its last word."""
        path = command(tmp_path / "tool", "print('one\\ntwo', file=sys.stderr); sys.exit(3)")
        with pytest.raises(ToolchainError, match=r"tool` ended with status 3: two\. Repair"):
            await ask([str(path)], {}, PATIENCE)

    @pytest.mark.parametrize("content", [None, "not a program", "#!/does/not/exist\n"])
    async def test_what_can_not_be_started_gives_a_sentence(self, tmp_path: Path, content: str | None) -> None:
        """A missing file, one of no known format, and one without its interpreter are refused alike."""
        path = tmp_path / "tool"
        if content:
            path.write_text(content)
            path.chmod(0o755)
        with pytest.raises(ToolchainError, match=r"tool` can't be started: .+\. Repair or remove it"):
            await ask([str(path)], {}, PATIENCE)

    async def test_one_that_does_not_answer_is_ended_with_its_children(self, tmp_path: Path) -> None:
        """After the limit neither the command nor what it started runs on."""
        pids = tmp_path / "pids"
        body = f"child = os.fork(); open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(60)"
        path = command(tmp_path / "tool", body)
        asking = asyncio.create_task(ask([str(path)], {}, timedelta(seconds=2)))
        with pytest.raises(ToolchainError, match=r"tool` did not answer within 2 s\. Repair"):
            await asking
        processes = [int(pid) for pid in pids.read_text().split()]
        assert len(processes) == 2
        await eventually(lambda: not any(map(is_alive, processes)))


class TestFind:
    async def test_the_users_own_comes_first(self, tmp_path: Path) -> None:
        """A `pulumi` on PATH is used although one was built."""
        own = pulumi(tmp_path / "own" / "pulumi")
        _built(tmp_path / "cache")
        assert await find(f"/nowhere:{own.parent}", tmp_path / "cache") == PulumiCli(own, "v3.206.0")

    async def test_else_the_built_one_is_used(self, tmp_path: Path) -> None:
        """Where PATH holds none, the built one serves."""
        built = _built(tmp_path / "cache")
        assert await find("/nowhere", tmp_path / "cache") == PulumiCli(built, BUILT_VERSION)

    async def test_half_a_build_is_none(self, tmp_path: Path) -> None:
        """A built CLI without its YAML host is not taken."""
        pulumi(tmp_path / f"pulumi-{BUILT_VERSION}" / "bin" / "pulumi")
        assert await find("/nowhere", tmp_path) is None

    @pytest.mark.parametrize("search_path", [None, ""])
    async def test_no_search_path_finds_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search_path: str | None
    ) -> None:
        """Without a PATH our own process's PATH does not step in."""
        monkeypatch.setenv("PATH", str(pulumi(tmp_path / "bin" / "pulumi").parent))
        assert await find(search_path, tmp_path) is None

    async def test_the_path_found_is_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative entry of PATH still means the same file in another working directory."""
        own = pulumi(tmp_path / "bin" / "pulumi")
        monkeypatch.chdir(tmp_path)
        found = await find("bin", tmp_path)
        assert found is not None
        assert found.path == own

    async def test_an_empty_version_is_accepted(self, tmp_path: Path) -> None:
        """A CLI that was built without a version answers with an empty line."""
        own = pulumi(tmp_path / "pulumi", version="")
        assert await find(str(tmp_path), tmp_path) == PulumiCli(own, "")

    async def test_asking_leaves_nothing_in_the_home_directory(self, tmp_path: Path) -> None:
        """Pulumi's home is a throwaway directory while it is asked, and the update check is off."""
        report = tmp_path / "report"
        command(
            tmp_path / "pulumi",
            f"""
            home = os.environ["PULUMI_HOME"]
            os.makedirs(home + "/logs")
            open({str(report)!r}, "w").write(home + " " + os.environ["PULUMI_SKIP_UPDATE_CHECK"])
            """,
        )
        await find(str(tmp_path), tmp_path)
        home, skip = report.read_text().split()
        assert skip == "true"
        assert not await asyncio.to_thread(Path(home).exists)

    async def test_one_that_fails_is_named(self, tmp_path: Path) -> None:
        """A broken CLI is not silently replaced by another one."""
        path = command(tmp_path / "pulumi", "sys.exit('no such library')")
        _built(tmp_path / "cache")
        with pytest.raises(ToolchainError, match=f"{path} version` ended with status 1: no such library"):
            await find(str(tmp_path), tmp_path / "cache")


class TestFinder:
    async def test_twenty_at_once_ask_one_time(self, tmp_path: Path) -> None:
        """The version is asked once for one executable."""
        own = pulumi(tmp_path / "pulumi")
        finder = Finder(str(tmp_path), tmp_path)
        assert set(await asyncio.gather(*(finder.find() for _ in range(20)))) == {PulumiCli(own, "v3.206.0")}
        assert times_asked(own) == 1

    async def test_another_executable_is_asked_anew(self, tmp_path: Path) -> None:
        """A CLI that was updated while the service runs is seen."""
        pulumi(tmp_path / "pulumi")
        finder = Finder(str(tmp_path), tmp_path)
        await finder.find()
        pulumi(tmp_path / "pulumi", version="v3.300.0")
        found = await finder.find()
        assert found is not None
        assert found.version == "v3.300.0"

    async def test_one_that_is_installed_later_is_found(self, tmp_path: Path) -> None:
        """None is not remembered."""
        finder = Finder(str(tmp_path / "bin"), tmp_path)
        assert await finder.find() is None
        pulumi(tmp_path / "bin" / "pulumi")
        assert await finder.find() is not None

    async def test_one_that_is_removed_is_gone(self, tmp_path: Path) -> None:
        """A found CLI is not remembered beyond its file."""
        own = pulumi(tmp_path / "pulumi")
        finder = Finder(str(tmp_path), tmp_path)
        await finder.find()
        own.unlink()
        assert await finder.find() is None

    async def test_a_broken_one_is_a_refusal_until_it_is_repaired(self, tmp_path: Path) -> None:
        """A deployment is refused with the reason, and the next one works after the repair."""
        command(tmp_path / "pulumi", "sys.exit(1)")
        finder = Finder(str(tmp_path), tmp_path)
        with pytest.raises(PulumiNotFound, match="ended with status 1"):
            await finder.find()
        pulumi(tmp_path / "pulumi")
        assert await finder.find() is not None

    async def test_one_that_failed_is_not_asked_by_everyone(self, tmp_path: Path) -> None:
        """Callers that wait behind a CLI which does not answer get its refusal; later it is asked anew."""
        own = command(
            tmp_path / "pulumi",
            f"""
            open({str(tmp_path / "pulumi.asked")!r}, "a").write("x")
            sys.exit(1)
            """,
        )
        now = 1000.0
        finder = Finder(str(tmp_path), tmp_path, clock=lambda: now)
        refusals = await asyncio.gather(*(finder.find() for _ in range(5)), return_exceptions=True)
        assert {type(refusal) for refusal in refusals} == {PulumiNotFound}
        assert times_asked(own) == 1
        now += FAILURE_MEMORY.total_seconds()
        with pytest.raises(PulumiNotFound, match="ended with status 1"):
            await finder.find()
        assert times_asked(own) == 2


def _built(cache: Path) -> Path:
    """Put a CLI where a built one is."""
    directory = cache / f"pulumi-{BUILT_VERSION}" / "bin"
    command(directory / "pulumi-language-yaml", "")
    return pulumi(directory / "pulumi", BUILT_VERSION)


class FakeGo:
    """A `go` that writes an executable for each command asked for, and notes how it was called."""

    def __init__(self, place: Path, version: str = "go1.26.8", before: str = "") -> None:
        self.calls = place / "calls"
        self.path = place / "bin"
        command(
            self.path / "go",
            f"""
            import json
            if sys.argv[1:] == ["version"]:
                print("go version {version} linux/amd64")
                sys.exit()
            with open({str(self.calls)!r}, "a") as calls:
                calls.write(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}}) + "\\n")
            {before}
            target = sys.argv[sys.argv.index("-o") + 1]
            for name in ("pulumi", "pulumi-language-yaml"):
                os.makedirs(target, exist_ok=True)
                with open(target + name, "w") as file:
                    file.write("#!/bin/sh\\necho {BUILT_VERSION}\\n")
                os.chmod(target + name, 0o755)
            """,
        )

    def environ(self, **more: str) -> dict[str, str]:
        return {"PATH": str(self.path), "HOME": "/home/ann", **more}

    def builds(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()] if self.calls.exists() else []


def a_program(cache: Path) -> GoProgram:
    return GoProgram(
        title="the tool v1",
        source=SOURCE,
        packages=("tool",),
        commands=("pulumi", "pulumi-language-yaml"),
        target=cache / "tool-v1",
        reason="it is needed",
        duration="a moment",
        otherwise="bring your own",
    )


def unheard(_: str) -> None:
    """Drop a report."""


class TestBuild:
    async def test_a_built_cli_is_found_from_then_on(self, tmp_path: Path) -> None:
        """What `build` makes is what `find` finds."""
        go = FakeGo(tmp_path / "go")
        built = await build(tmp_path / "cache", unheard, go.environ())
        assert built.version == BUILT_VERSION
        assert await find("/nowhere", tmp_path / "cache") == built

    async def test_it_is_said_before_what_is_done(self, tmp_path: Path) -> None:
        """What, with what, why, for how long and where to come before the build, and the end after it."""
        go = FakeGo(tmp_path / "go")
        said: list[str] = []
        await build(tmp_path / "cache", said.append, go.environ())
        assert said[0] == (
            f"Building the Pulumi CLI {BUILT_VERSION} with go1.26.8, because there is no `pulumi` on PATH. This is "
            f"done once and takes about 5 minutes on 2 cores; the result goes to {tmp_path}/cache/"
            f"pulumi-{BUILT_VERSION}."
        )
        assert re.fullmatch(rf"Built the Pulumi CLI {BUILT_VERSION} in \d+ s\.", said[-1])

    async def test_the_version_is_built_in(self, tmp_path: Path) -> None:
        """Pulumi only knows its version when the linker is told."""
        go = FakeGo(tmp_path / "go")
        await build(tmp_path / "cache", unheard, go.environ())
        argv = go.builds()[0]["argv"]
        assert argv[:3] == ["build", "-C", str(SOURCE)]
        assert f".Version={BUILT_VERSION}" in argv[argv.index("-ldflags") + 1]
        assert argv[-1] == "tool"

    def test_the_module_pins_what_is_announced(self) -> None:
        """go.mod asks for the version of Pulumi and the version of Go that the code names."""
        module = (SOURCE / "go.mod").read_text()
        assert re.findall(r"github.com/pulumi/pulumi/pkg/v3 (\S+)", module) == [BUILT_VERSION]
        assert re.findall(r"^go (\S+)$", module, re.MULTILINE) == [".".join(map(str, OLDEST_GO))]


class TestGoBuild:
    async def test_a_second_build_needs_nothing(self, tmp_path: Path) -> None:
        """What is built is not built again, and then no Go is needed."""
        go = FakeGo(tmp_path / "go")
        directory = await go_build(a_program(tmp_path / "cache"), go.environ(), unheard)
        said: list[str] = []
        assert await go_build(a_program(tmp_path / "cache"), {}, said.append) == directory
        assert len(go.builds()) == 1
        assert said == []

    async def test_three_builders_at_once_build_one_time(self, tmp_path: Path) -> None:
        """In one process, those who come while a build is under way wait for it, and say so."""
        go = FakeGo(tmp_path / "go", before="time.sleep(0.3)")
        said: list[str] = []
        await asyncio.gather(
            *(go_build(a_program(tmp_path / "cache"), go.environ(), said.append) for _ in range(3)),
        )
        assert len(go.builds()) == 1
        assert said.count("Waiting for another process that builds the tool v1.") == 2

    async def test_three_processes_at_once_build_one_time(self, tmp_path: Path) -> None:
        """The lock holds between processes, too."""
        go = FakeGo(tmp_path / "go", before="time.sleep(0.5)")
        code = f"""
import asyncio
from pathlib import Path
from runners.toolchain import build
print(asyncio.run(build(Path({str(tmp_path / "cache")!r}), print, {go.environ()!r})).version)
"""
        builders = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
            for _ in range(3)
        ]
        answers = [(await builder.communicate())[0].decode().splitlines()[-1] for builder in builders]
        assert answers == [BUILT_VERSION] * 3
        assert len(go.builds()) == 1

    async def test_a_waiting_builder_can_be_cancelled(self, tmp_path: Path) -> None:
        """Nobody is kept by a lock that another process holds."""
        go = FakeGo(tmp_path / "go")
        program = a_program(tmp_path)
        said: list[str] = []
        with program.target.with_name("tool-v1.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = asyncio.create_task(go_build(program, go.environ(), said.append))
            await eventually(lambda: len(said) == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert go.builds() == []

    async def test_what_a_killed_builder_left_is_replaced(self, tmp_path: Path) -> None:
        """Neither an abandoned draft nor an incomplete target stands in the way."""
        go = FakeGo(tmp_path / "go")
        program = a_program(tmp_path / "cache")
        (tmp_path / "cache" / ".tool-v1-abandoned" / "bin").mkdir(parents=True)
        command(program.bin / "pulumi", "")
        await go_build(program, go.environ(), unheard)
        assert program.is_built()
        assert entries(tmp_path / "cache") == ["tool-v1", "tool-v1.lock"]

    async def test_the_cache_is_private(self, tmp_path: Path) -> None:
        """Nobody else can put a program where ours are run from."""
        go = FakeGo(tmp_path / "go")
        program = a_program(tmp_path / "cache")
        await go_build(program, go.environ(), unheard)
        assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
        assert stat.S_IMODE(program.target.stat().st_mode) == 0o700

    async def test_the_environment_of_go(self, tmp_path: Path) -> None:
        """The caller's settings reach Go, except those by which it would build something else."""
        go = FakeGo(tmp_path / "go")
        given = go.environ(GOTOOLCHAIN="local", GOPROXY="off", GOCACHE="/mine", GOOS="plan9", GOFLAGS="-mod=mod")
        await go_build(a_program(tmp_path / "cache"), given, unheard)
        environment = go.builds()[0]["env"]
        assert environment["GOTMPDIR"].startswith(str(tmp_path / "cache"))
        assert {name: value for name, value in environment.items() if name.startswith(("GO", "CGO"))} == {
            "GOTOOLCHAIN": "local",
            "GOPROXY": "off",
            "GOCACHE": "/mine",
            "GOWORK": "off",
            "GOFLAGS": "-mod=readonly",
            "CGO_ENABLED": "0",
            "GOTMPDIR": environment["GOTMPDIR"],
        }

    async def test_without_a_home_go_keeps_its_caches_in_ours(self, tmp_path: Path) -> None:
        """Go refuses to work when it does not know where to keep its caches."""
        go = FakeGo(tmp_path / "go")
        await go_build(a_program(tmp_path / "cache"), {"PATH": str(go.path)}, unheard)
        environment = go.builds()[0]["env"]
        assert environment["GOCACHE"] == str(tmp_path / "cache" / "go-build")
        assert environment["GOMODCACHE"] == str(tmp_path / "cache" / "go-mod")

    async def test_without_go_both_ways_out_are_named(self, tmp_path: Path) -> None:
        """A machine without Go gets a sentence and no build."""
        oldest = ".".join(map(str, OLDEST_GO))
        with pytest.raises(ToolchainError) as refusal:
            await build(tmp_path, unheard, {"PATH": "/nowhere"})
        assert refusal.value.message == (
            f"Building the Pulumi CLI {BUILT_VERSION} needs Go, and there is no `go` on PATH. Install Go {oldest} or "
            "newer, or install the Pulumi CLI and put it on PATH."
        )
        assert entries(tmp_path) == []

    @pytest.mark.parametrize("version", ["go1.19.8", "go1.25", "go1.25.10", "go1.25rc1"])
    async def test_an_old_go_is_refused_before_the_build(self, tmp_path: Path, version: str) -> None:
        """A Go that is too old is named with its version."""
        go = FakeGo(tmp_path / "go", version=version)
        with pytest.raises(ToolchainError, match=rf"needs a newer Go than .*/go, which is {version[:6]}.*Install Go"):
            await go_build(a_program(tmp_path / "cache"), go.environ(), unheard)
        assert go.builds() == []

    @pytest.mark.parametrize("version", ["go1.25.11", "go1.26rc2", "devel go1.27-6a7b"])
    async def test_a_new_go_is_accepted(self, tmp_path: Path, version: str) -> None:
        """The oldest version that will do, and the ways in which newer ones name themselves."""
        go = FakeGo(tmp_path / "go", version=version)
        await go_build(a_program(tmp_path / "cache"), go.environ(), unheard)

    async def test_something_else_named_go_is_refused(self, tmp_path: Path) -> None:
        """The game of Go compiles nothing."""
        command(tmp_path / "go", "print('black to move')")
        with pytest.raises(ToolchainError, match=r"answered 'black to move', which names no version of Go\."):
            await go_build(a_program(tmp_path / "cache"), {"PATH": str(tmp_path)}, unheard)

    async def test_a_failure_shows_the_end_of_the_output(self, tmp_path: Path) -> None:
        """The error holds the last lines that are no progress, nothing is left, and the next try works."""
        complaint = 'print(*("noise/package",) * 99, *(f"line {n}" for n in range(99)), sep="\\n"); sys.exit(1)'
        go = FakeGo(tmp_path / "go", before=complaint)
        with pytest.raises(ToolchainError, match=r"ended with status 1\. Correct what the output below") as failure:
            await go_build(a_program(tmp_path / "cache"), go.environ(), unheard)
        assert failure.value.message.splitlines()[1:] == [f"line {number}" for number in range(79, 99)]
        assert entries(tmp_path / "cache") == ["tool-v1.lock"]
        await go_build(a_program(tmp_path / "cache"), FakeGo(tmp_path / "go").environ(), unheard)

    async def test_a_build_without_result_is_a_failure(self, tmp_path: Path) -> None:
        """A `go` that ends well without having built anything is not believed."""
        go = FakeGo(tmp_path / "go", before="sys.exit(0)")
        with pytest.raises(ToolchainError, match="without pulumi, pulumi-language-yaml"):
            await go_build(a_program(tmp_path / "cache"), go.environ(), unheard)

    async def test_progress_is_said_again_and_again(self, tmp_path: Path) -> None:
        """First modules are downloaded, then packages compiled; a line may be long and need not end."""
        done = tmp_path / "done"
        until = f"while not os.path.exists({str(done)!r}): time.sleep(0.01)"
        output = "print('go: downloading a v1\\na/b\\na/c\\n' + 'x' * 300_000, end='', flush=True)"
        go = FakeGo(tmp_path / "go", before=f"{output}\n            {until}")
        said: list[str] = []
        building = asyncio.create_task(
            go_build(a_program(tmp_path / "cache"), go.environ(), said.append, progress_every=MOMENT)
        )
        await eventually(lambda: re.search(r"Building the tool v1: \d+ s, 2 packages compiled\.", "\n".join(said)))
        done.touch()
        await building

    async def test_a_build_ends_at_its_limit_with_all_that_it_started(self, tmp_path: Path) -> None:
        """After the limit the compilers are gone, the sentence says how to go on, and nothing is left."""
        pids = tmp_path / "pids"
        forking = f"os.fork(); open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(60)"
        go = FakeGo(tmp_path / "go", before=forking)
        with pytest.raises(ToolchainError, match=r"stopped after 2 s\. Try again: what was compiled is kept; or bring"):
            await go_build(a_program(tmp_path / "cache"), go.environ(), unheard, limit=timedelta(seconds=2))
        processes = [int(pid) for pid in pids.read_text().split()]
        assert len(processes) == 2
        await eventually(lambda: not any(map(is_alive, processes)))
        assert entries(tmp_path / "cache") == ["tool-v1.lock"]

    async def test_a_cancelled_build_is_ended(self, tmp_path: Path) -> None:
        """A ^C during a build leaves no compiler behind."""
        go = FakeGo(tmp_path / "go", before="time.sleep(60)")
        building = asyncio.create_task(go_build(a_program(tmp_path / "cache"), go.environ(), unheard))
        await eventually(lambda: go.calls.exists() and go.calls.read_text().endswith("\n"))
        building.cancel()
        with suppress(asyncio.CancelledError):
            await building
        assert building.cancelled()
        await eventually(lambda: not is_alive(go.builds()[0]["pid"]))
        assert entries(tmp_path / "cache") == ["tool-v1.lock"]

    async def test_a_place_that_can_not_be_written_is_named(self, tmp_path: Path) -> None:
        """A cache that can't be made gives a sentence with the setting to change."""
        go = FakeGo(tmp_path / "go")
        (tmp_path / "file").touch()
        with pytest.raises(ToolchainError, match=r"in .*/file/cache: .*Not a directory.*Set XDG_CACHE_HOME"):
            await go_build(a_program(tmp_path / "file" / "cache"), go.environ(), unheard)


@pytest.mark.external
async def test_the_real_cli_answers(pulumi_cli: PulumiCli) -> None:
    """The Pulumi that the tests use is a real one, with a version that the product supports."""
    match = re.match(r"v3\.(\d+)\.", pulumi_cli.version)
    assert match is not None
    assert int(match[1]) >= 206
