"""The command line's front door: `stackcast`, or `python -m graphql_api`."""

from graphql_api.cli.front import cli


def main() -> None:
    cli(prog_name="stackcast")


if __name__ == "__main__":
    main()
