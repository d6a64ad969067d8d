"""Profiles: which gateway, and where the key for it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.client.profiles import Profile, profile_of
from gateway.errors import GatewayError, InvalidRequest, NotFound

KEY = "alpk_" + "a" * 12 + "_" + "b" * 49


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIT_GATEWAY_PROFILES", str(tmp_path / "profiles.toml"))
    monkeypatch.delenv("AUDIT_GATEWAY_KEY", raising=False)
    return tmp_path / "profiles.toml"


def write(profiles: Path, text: str, mode: int = 0o600) -> None:
    profiles.write_text(f'[prod]\nurl = "https://gw.example.org"\n{text}\n')
    profiles.chmod(mode)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_one_that_others_can_read_or_write_is_refused_with_the_remedy(
    profiles: Path, mode: int
) -> None:
    write(profiles, "", mode)
    with pytest.raises(InvalidRequest, match="chmod 600") as refused:
        profile_of("prod")
    assert refused.value.code == "profiles_readable"


def test_the_key_is_read_from_a_file_a_command_or_the_environment(
    profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    for text in (f'key_file = "{file}"', f'key_command = ["cat", "{file}"]',
                 f'key_command = "cat {file}"'):  # fmt: skip
        write(profiles, text)
        assert profile_of("prod").read_key() == KEY
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", f" {KEY} ")
    write(profiles, 'ca = "/etc/ca.pem"')
    assert profile_of("prod") == Profile("https://gw.example.org", ca="/etc/ca.pem")
    assert profile_of("prod").read_key() == KEY


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a key is needed"),
        ('key = "alpk_"', "unknown field `key`"),
        ('key_file = "/nowhere"', "cannot be read"),
        ('key_file = "a"\nkey_command = "b"', "leave one out"),
        ('key_command = ""', "it is empty"),
        ('key_command = ["false"]', "ended with 1"),
        ('key_command = ["echo", "two words"]', "is not a key"),
        ('key_command = ["/nowhere"]', "No such file"),
        ('key_command = ["head", "-c", "5000", "/dev/zero"]', "more than a key"),
    ],
)
def test_what_gives_no_key_is_refused(profiles: Path, text: str, said: str) -> None:
    write(profiles, text)
    with pytest.raises(InvalidRequest, match=said):
        profile_of("prod").read_key()


def test_what_is_not_there_or_no_toml_is_said(profiles: Path) -> None:
    with pytest.raises(NotFound, match="there are no profiles"):
        profile_of("prod")
    write(profiles, "")
    with pytest.raises(NotFound, match="there are: prod"):
        profile_of("test")
    write(profiles, "=")
    with pytest.raises(GatewayError, match="is no TOML"):
        profile_of("prod")
