"""`oneiros import`, as a test calls it."""

from oneiros.cli import main


def run(*arguments) -> int:
    """The exit code of `oneiros import ARGUMENTS`."""
    try:
        main(["import", *map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
