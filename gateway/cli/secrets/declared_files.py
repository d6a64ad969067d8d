"""Files of declarations as `apply` reads them: the set that is sent, and places of secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from gateway.errors import GatewayError, InvalidRequest

if TYPE_CHECKING:
    from gateway.declarations.declared import SecretPlace
    from gateway.declarations.reading import SetOfFiles

_PATH = re.compile(r"((?:roles|keys|destinations)\.[^\s:]+): ")


class DeclaredFiles:
    """One set from several files."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        from gateway.declarations.reading import read_set
        from gateway.declarations.wanted import structure

        self._read: SetOfFiles = read_set([(str(file), _content(file)) for file in files])
        try:
            declared = structure(self._read.members)
            self.places: dict[str, SecretPlace] = {
                name: key.secret for name, key in declared.keys.items() if key.secret is not UNSET
            }
            for name, place in self.places.items():
                _check(f"keys.{name}.secret", [place.file, place.command], "file or command")
            self._declared = declared
        except InvalidRequest as error:
            raise self.named(error) from None

    def body(self) -> dict[str, Any]:
        """The set as it is sent: without places of secrets, with secrets of destinations."""
        from gateway.cli.secrets.secret_source import read_secret
        from gateway.declarations.declared import SecretSource

        body: dict[str, Any] = dict(self._read.members)
        keys: dict[str, Any] = body.get("keys", {})
        body["keys"] = {
            name: {member: value for member, value in key.items() if member != "secret"}
            for name, key in keys.items()
        }
        destinations: dict[str, Any] = {}
        for name, one in body.get("destinations", {}).items():
            sources = one.get("secrets", {})
            secrets = {}
            for secret, source in sources.items():
                path = f"destinations.{name}.secrets.{secret}"
                try:
                    known = msgspec.convert(source, SecretSource)
                    _check(path, [known.file, known.env, known.command], "file, env or command")
                except msgspec.ValidationError:
                    raise self.named(
                        InvalidRequest(
                            f"{path}: it stands nowhere in a file: say where it is, such as "
                            '{ file = "/run/secrets/token" } or { env = "TOKEN" }',
                            path=path,
                        )
                    ) from None
                secrets[secret] = read_secret(known, path)
            destinations[name] = {**one, "secrets": secrets} if sources else one
        body["destinations"] = destinations
        return {name: value for name, value in body.items() if value or name == "set"}

    def owner(self, name: str) -> str:
        """What an object of that name says in `managed_by`."""
        return f"{self._declared.set}/{name}"

    def place_of(self, name: str) -> SecretPlace:
        """Where the secret of a key is put. Raises for one without a place."""
        if name not in self.places:
            raise self.named(
                InvalidRequest(
                    f"keys.{name}.secret: it is needed, as this key is to be made: say where its "
                    'secret is put, such as { file = "/run/secrets/siem", mode = "0600" } or '
                    '{ command = ["vault", "kv", "put", "secret/siem", "key=-"] }',
                    path=f"keys.{name}",
                )
            )
        return self.places[name]

    def named(self, error: GatewayError) -> GatewayError:
        """The error with the name of the file that it is about."""
        found = _PATH.match(error.detail)
        path = str(error.members.get("path") or (found[1] if found else ""))
        file = self._read.file_of(path) if path else ""
        if file and not error.detail.startswith(f"{file}: "):
            error.detail = f"{file}: {error.detail}"
        return error


def _check(path: str, given: list[Any], names: str) -> None:
    if sum(one is not UNSET for one in given) != 1:
        raise InvalidRequest(f"{path}: give one of {names}", path=path)


def _content(file: Path) -> bytes:
    from gateway.declarations.reading import MOST_BYTES

    try:
        # Bounded: something else, such as a device, may have no end.
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None
