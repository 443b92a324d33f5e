"""Claims about how a stage is run: it explains itself when asked, takes no other words, and ends in one line where it can't go on."""

from __future__ import annotations

import errno
import re

import pytest

from tasks import evaluate
from tasks.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, InputError, Interrupted, run_stage


def never() -> None:
    raise AssertionError("the stage ran")


def test_help_explains_a_stage_without_running_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", "--help"])
    monkeypatch.setattr(evaluate.main, "__module__", "__main__")
    with pytest.raises(SystemExit) as ended:
        run_stage(evaluate.main)
    assert ended.value.code == 0
    assert evaluate.__doc__.splitlines()[0] in capsys.readouterr().out


def test_a_word_that_a_stage_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", "--fast"])
    monkeypatch.setattr(never, "__module__", "__main__")
    with pytest.raises(SystemExit) as ended:
        run_stage(never)
    assert ended.value.code == 2
    assert "--fast" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [(InputError("expected a video"), EXIT_BAD_INPUT, "error: expected a video"), (Interrupted("after step 3"), EXIT_INTERRUPTED, "interrupted: after step 3"),
     (KeyboardInterrupt(), EXIT_INTERRUPTED, "interrupted: nothing made before is lost; run the same command again")],
)  # fmt: skip
def test_known_ends_are_one_line_and_a_code(end: BaseException, code: int, said: str, capsys: pytest.CaptureFixture) -> None:
    def main() -> None:
        raise end

    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    assert ended.value.code == code
    assert capsys.readouterr().err.strip() == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EDQUOT, "Quota exceeded"), "the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: .* MB are free .*same command again"),
        (PermissionError(errno.EACCES, "Permission denied", "/proc/x.png"), r"Permission denied \(/proc/x.png\)"),
    ],
)
def test_what_the_file_system_refuses_is_one_line_and_may_go_better_another_time(error: OSError, said: str, capsys: pytest.CaptureFixture) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run_stage(main)
    assert end.value.code not in (0, EXIT_BAD_INPUT, EXIT_INTERRUPTED)
    assert re.search(said, capsys.readouterr().err)


def test_a_program_that_is_not_found_keeps_its_traceback() -> None:
    def main() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "no-such-program")

    with pytest.raises(FileNotFoundError):
        run_stage(main)
