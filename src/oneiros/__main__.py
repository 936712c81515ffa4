"""Where `oneiros` and `python -m oneiros` begin."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so in the background of a shell
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` handles it: Ctrl-C ends, without a traceback

from oneiros.cli import main

if __name__ == "__main__":
    main()
