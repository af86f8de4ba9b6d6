"""What takes how long, as a ratio to a named peer in the same run: `uv run python -m tests.bench`."""
