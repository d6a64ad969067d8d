"""Places of secrets: what commands get to know, and what is read of what stands there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.cli.secrets.secret_sink import SecretFileSink
from gateway.cli.secrets.secret_source import read_secret
from gateway.declarations.declared import SecretSource


def test_a_command_that_prints_a_secret_is_not_told_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", "alpk_secret")
    source = SecretSource(command=["sh", "-c", "printf %s ${AUDIT_GATEWAY_KEY-none}"])
    assert read_secret(source, "token") == "none"


@pytest.mark.parametrize("writes", [False, True])
def test_a_pipe_in_the_place_of_a_secret_is_not_waited_for(tmp_path: Path, writes: bool) -> None:
    place = tmp_path / "siem"
    os.mkfifo(place)
    # One that nobody writes to, and one whose writer says nothing.
    writer = os.open(place, os.O_RDWR) if writes else None
    try:
        assert SecretFileSink(place, 0o600).held_key() == ""
    finally:
        if writer is not None:
            os.close(writer)


def test_what_has_no_end_holds_no_key() -> None:
    assert SecretFileSink(Path("/dev/zero"), 0o600).held_key() == ""
