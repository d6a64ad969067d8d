"""The check that tests leave nothing behind finds what they would leave."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.leftovers import nothing_is_left_behind

ORPHAN = "sleep 60 < /dev/null > /dev/null 2>&1 & echo $!"


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_END_SECONDS", 0.2)


def test_a_process_that_outlives_its_parent_is_found() -> None:
    with pytest.raises(AssertionError, match=r"still running.* sleep 60"), nothing_is_left_behind():
        pid = int(subprocess.check_output(["sh", "-c", ORPHAN], start_new_session=True))
    os.kill(pid, 9)


def test_a_process_that_has_dropped_its_environment_is_found_by_its_parent() -> None:
    with pytest.raises(AssertionError, match=r"still running.* sleep 60"), nothing_is_left_behind():
        child = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"]})
    child.kill()
    child.wait()


def test_a_temporary_file_is_found_and_removed() -> None:
    found = ""
    with pytest.raises(AssertionError, match=r"left in .*'forgotten-"), nothing_is_left_behind():
        found = tempfile.mkdtemp(prefix="forgotten-")
    assert not Path(found).parent.exists()


def test_what_ends_and_is_removed_is_nothing() -> None:
    usual = tempfile.gettempdir()
    with nothing_is_left_behind(), tempfile.NamedTemporaryFile():
        subprocess.run(["true"], check=True)
    assert tempfile.gettempdir() == usual
