"""Finding a Pulumi CLI, or building the pinned one with Go.

A user's own ``pulumi`` on PATH always comes first. Where there is none, ``build`` compiles Pulumi and its YAML host
once into a cache directory, at the versions in this folder's go.mod and go.sum. ``go_build`` is the general part of it.
"""

from __future__ import annotations

from runners.toolchain.ask import ToolchainError
from runners.toolchain.cli import BUILT_VERSION, Finder, PulumiCli, build, cache_directory, find
from runners.toolchain.go import GoProgram, go_build

__all__ = [
    "BUILT_VERSION",
    "Finder",
    "GoProgram",
    "PulumiCli",
    "ToolchainError",
    "build",
    "cache_directory",
    "find",
    "go_build",
]
