"""How a stage ends: with an error that a user can act on, or with an exit code that tells what stopped it."""

from __future__ import annotations

import argparse
import errno
import shutil
import sys
from collections.abc import Callable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.EISDIR)
EXIT_SYSTEM = 1  # may go better another time
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class InputError(Exception):
    """What a user brought cannot be used; the message says what was expected, what came and what to do next."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived and the work done so far is safe; the message says how to go on."""


def run_stage(main: Callable[[], None], *, reads_arguments: bool = False) -> None:
    """Run a stage's main; turn its known ends and what the file system refuses into one clear line and an exit code, everything else into a traceback.

    A stage that is run as a program (`python -m tasks.evaluate`) explains itself at --help and takes no other words, unless
    `reads_arguments` tells that its main looks at the command line itself.
    """
    if main.__module__ == "__main__" and not reads_arguments:
        argparse.ArgumentParser(description=main.__globals__["__doc__"], formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except OSError as error:
        if error.errno not in (*DISK_FULL, *REFUSED):
            raise
        print(f"error: {explain_os_error(error)}", file=sys.stderr)
        sys.exit(EXIT_SYSTEM)
    except (Interrupted, KeyboardInterrupt) as stop:
        print(f"interrupted: {str(stop) or 'nothing made before is lost; run the same command again'}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def explain_os_error(error: OSError) -> str:
    """What the file system refused, where, and what to do."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in DISK_FULL:
        return f"the disk is full{where}: {shutil.disk_usage('.').free / 1e6:.0f} MB are free where the project lies; make room and run the same command again, nothing made before is lost"
    return f"{error.strerror or error}{where}; see that the place exists and may be written, then run the same command again"
