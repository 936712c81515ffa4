"""The command line: one file per verb, imported only when the verb is used."""

from __future__ import annotations

import re
import select
import signal
import sys
import warnings
from importlib import import_module

from oneiros import __version__
from oneiros.cli.stopping import Stoppable, write_nowhere

# verb -> (module, one line of help), in the order a newcomer meets them
VERBS = {
    "doctor": ("doctor", "what is installed, what each verb still needs, cores and GPU"),
    "record": ("record", "play episodes in ViZDoom, Meta-World or any Gymnasium env and save a LeRobot dataset"),
    "import": ("import_data", "turn films with actions, robomimic's or ALOHA's recordings into a LeRobot dataset"),
    "actions": ("actions", "infer actions that are missing, or codes of what can happen, from what moves in films"),
    "inspect": ("inspect", "summary, checks and picture of a dataset, a cloud of points or a run"),
    "clouds": ("clouds", "turn depth frames of a dataset into clouds of points, labelled where labels were recorded"),
    "train": ("train", "train a tokenizer, a world on its codes, a policy on its dreams; or a segmenter of clouds"),
    "encode": (
        "encode",
        "turn a dataset's frames into codes, by many processes or machines, for a world to learn from",
    ),
    "segment": ("segment", "classify the points of clouds, such as airborne lidar"),
    "eval": ("eval", "measure a world or a segmenter on what it never saw, or a policy in its environment"),
    "dream": ("dream", "write a video of a dream beside the real episode"),
    "play": ("play", "step into the dream, in the browser or here"),
    "export": ("export", "a world as a page that plays without a server, or as ONNX files"),
    "demo": ("demo", "record, train, evaluate and dream in one go, on ViZDoom"),
}

_USAGE = "usage: oneiros VERB [OPTIONS]     (oneiros VERB --help explains one verb)"


def _overview() -> str:
    width = max(map(len, VERBS)) + 2
    rows = "\n".join(f"  {verb:<{width}}{text}" for verb, (_, text) in VERBS.items())
    return (
        f"Oneiros {__version__}: playable world models.\n\n{_USAGE}\n\n{rows}\n\n"
        "From nothing to a dream:\n"
        "  oneiros record doom:health_gathering --episodes 60 --out data\n"
        "  oneiros train tokenizer data --out runs/tokenizer\n"
        "  oneiros train world data --tokenizer runs/tokenizer --out runs/world\n"
        "  oneiros play runs/world"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run one verb. Bad input ends with one line and exit code 2. Ctrl-C ends with exit code 130, as do SIGTERM and a
    terminal that closes, with 143, after what is open has been saved."""
    arguments = sys.argv[1:] if arguments is None else arguments
    warnings.formatwarning = _in_one_line  # names from files are in them
    with Stoppable() as stoppable:
        try:
            _run(arguments)
            sys.stdout.flush()
        except (ValueError, OSError) as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                sys.exit(1)
            _fail(str(error))
        except (Exception, KeyboardInterrupt) as error:
            if stoppable.signal is None and not isinstance(error, KeyboardInterrupt):
                raise
            stoppable.ignore()
            print("stopped", file=sys.stderr)  # whatever a package made of the signal while it was imported
            sys.exit(128 + (stoppable.signal or signal.SIGINT))


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        return
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        _fail(f"{verb!r} is not a verb; choose from {', '.join(VERBS)}")
    try:
        import_module(f"oneiros.cli.{VERBS[verb][0]}").main(rest)
    except SystemExit:  # the end of --help
        sys.stdout.flush()
        raise
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("oneiros"):
            raise
        _fail(f"{verb} needs the package {error.name!r}, which is not installed; `oneiros doctor` says how to get it")


def _nobody_reads() -> bool:
    """Whether what is printed goes to a pipe whose reader has gone, as in `oneiros --help | head -1`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = any(state & select.POLLERR for _, state in poll.poll(0))
    if gone:
        write_nowhere(sys.stdout)
    return gone


def _in_one_line(message: Warning | str, category: type[Warning], *_: object) -> str:
    from oneiros.console import in_one_line

    told = re.sub(r"\x1b\[[0-9;]*m", "", str(message))  # colours, as Gymnasium's
    return f"{in_one_line(f'warning: {told}')}\n"


def _fail(message: str) -> None:
    from oneiros.console import in_one_line

    print(in_one_line(f"oneiros: {message}"), file=sys.stderr)
    sys.exit(2)
