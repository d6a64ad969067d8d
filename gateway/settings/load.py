"""Loading of settings from all sources, checks, and the generated descriptions.

Precedence: defaults < TOML file < environment < flags. A setting that is unknown, of the wrong type
or out of range raises `InvalidSetting`, even if a stronger source overrides it. Declarations:
`gateway.settings.declarations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from gateway.errors import InvalidSetting
from gateway.settings.console import OidcSettings
from gateway.settings.declarations import (
    DECLARED,
    NOT_ABOVE,
    NOT_BOTH,
    SECTIONS,
    SUBSECTIONS,
    TABLES,
    Given,
    Settings,
)
from gateway.settings.kinds import LIST, TEXT, Setting, masked
from gateway.settings.sources import Raw, env_name, from_environment, from_file, from_flags

if TYPE_CHECKING:
    from pathlib import Path

# Sections of tables with names of the user.
_NAMED_TABLES = ("destinations", "sources")


def load(config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Settings from all sources. `flags` by path, `{"server.port": 8080}`; None is ignored.

    Raises `InvalidSetting` with one line: which setting, what is wrong, where it was given.
    """
    given: dict[str, Given] = {}
    declared: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in _NAMED_TABLES}
    values: dict[str, dict[str, Any]] = {section: {} for section in ("", *TABLES)}
    for raw in chain(
        from_file(config, [*TABLES, *_NAMED_TABLES]) if config else (),
        from_environment(environ),
        from_flags(flags),
    ):
        section, _, name = raw.path.rpartition(".")
        if section in _NAMED_TABLES and isinstance(raw.value, dict):
            declared[section][name] = raw.value
            given[raw.path] = Given("{..}", raw.origin)
            continue
        value, given[raw.path] = _checked(raw)
        values[section][name] = value
    for path, of in SUBSECTIONS.items():
        section, _, name = path.rpartition(".")
        values[section][name] = of(**values[path])
    sections = {name: of(**values[name]) for name, of in SECTIONS.items()}
    settings = Settings(
        **values[""],
        **sections,
        declared_destinations=declared["destinations"],
        declared_sources=declared["sources"],
        given=given,
    )
    _check_pairs(settings)
    _check_places(settings)
    _check_followed(settings)
    _check_tls(settings)
    _check_oidc(settings)
    return settings


def example() -> str:
    """TOML file of every setting, commented out, with its default and help."""
    from textwrap import wrap

    lines = [
        "# Settings of the audit log gateway, all at their defaults: take a `#` away to set one.",
        "# Flags win over environment variables, and those over this file. The variable of",
        f"# server.port is {env_name('server.port')}.",
        '# Durations are like "30s", "15m", "24h", "30d"; sizes like "64KiB", "10GiB" or bytes.',
    ]
    for section, about, settings in _by_section():
        lines += ["", f"# {about}", f"[{section}]"] if section else []
        for name, declared in settings.items():
            limits = "; ".join(filter(None, (declared.unit, _range(declared))))
            about = declared.help + (f" ({limits})" if limits else "")
            lines += ["", *wrap(about, 96, initial_indent="# ", subsequent_indent="# ")]
            lines += [f"#{name} = {_toml(declared.default)}"]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """Markdown page with a table of the settings of each section."""
    lines = [
        "# Settings",
        "",
        "Later ones win: defaults, the TOML file of `--config`, environment variables, flags.",
        "A name that is not in these tables stops the start, and so does any other variable that",
        "begins with `AUDIT_GATEWAY_`. Durations are like `30s`, `15m`, `24h`, `30d`; sizes like",
        "`64KiB`, `10GiB` or a plain number of bytes. In the environment, lists are separated by",
        "commas. `audit-gateway config check` says what is set, and where.",
    ]
    for section, about, settings in _by_section():
        lines += ["", f"## `[{section}]`", "", about] if section else ["", "## Top level"]
        lines += ["", "| Setting | Kind | Default | Range | Variable | Meaning |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        for name, declared in settings.items():
            path = f"{section}.{name}" if section else name
            kind = declared.kind.name + (f" ({declared.unit})" if declared.unit else "")
            cells = [f"`{path}`", kind, f"`{_toml(declared.default)}`", _range(declared)]
            cells += [f"`{env_name(path)}`", declared.help]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]
    return "\n".join(lines) + "\n"


def _checked(raw: Raw) -> tuple[Any, Given]:
    declared = DECLARED.get(raw.path)
    if declared is None:
        raise _unknown(raw)
    try:
        if raw.is_text and declared.kind in (TEXT, LIST) and not declared.adds:
            _refuse_empty(raw)
        value = declared.kind.from_text(str(raw.value)) if raw.is_text else raw.value
        held = declared.read(value)
    except ValueError as error:
        raise InvalidSetting(
            f"{raw.path}: {error} ({raw.origin})", setting=raw.path, origin=raw.origin
        ) from None
    return held, Given(_toml(masked(str(value)) if declared.secret else value), raw.origin)


def _refuse_empty(raw: Raw) -> None:
    """Refuse an empty text, most often an unset variable: it would mean another store."""
    if not str(raw.value).strip(" \t,"):
        how = "unset the variable" if raw.is_variable else "leave the flag out"
        raise ValueError(f"is empty; give it a value, or {how} for the default")


def _unknown(raw: Raw) -> InvalidSetting:
    near = _nearest(raw)
    path = raw.path if raw.path.isprintable() else ascii(raw.path)
    detail = f"{path}: there is no such setting ({raw.origin})"
    if near:
        detail += f"; did you mean {near}" + (f" ({env_name(near)})?" if raw.is_variable else "?")
    if raw.hint:
        detail += f"; {raw.hint}"
    return InvalidSetting(detail, setting=raw.path, origin=raw.origin, nearest=near)


def _nearest(raw: Raw) -> str | None:
    """Valid name that was most likely meant: the same in another section, or a similar one."""
    from difflib import get_close_matches

    path = raw.path.lower()
    section, _, leaf = path.rpartition(".")
    # Reversed: the first of several with one name wins.
    leaves = [(name.rpartition(".")[2], name) for name in reversed(DECLARED)]
    by_leaf = dict(leaves)
    if leaf in by_leaf:
        return by_leaf[leaf]
    if section in TABLES:
        # Compared without the section, which would make all its names similar.
        by_leaf = {one: name for one, name in leaves if name.startswith(section + ".")}
    else:
        names = [*DECLARED] if raw.is_variable or section else [*DECLARED, *TABLES]
        if like := get_close_matches(path, names, 1):
            return like[0]
    like = get_close_matches(leaf, by_leaf, 1)
    return by_leaf[like[0]] if like else None


def _check_pairs(settings: Settings) -> None:
    for low, high, why in NOT_ABOVE:
        if attrgetter(low)(settings) > attrgetter(high)(settings):
            first = low if low in settings.given else high
            pair = [
                f"{path} = {one.shown} ({one.origin})"
                for path in (low, high)
                for one in [settings.given.get(path) or Given(_default(path), "default")]
            ]
            raise InvalidSetting(
                f"{first}: {pair[0]} is above {pair[1]}: {why}",
                setting=first,
                origin=settings.given[first].origin,
            )


def _check_places(settings: Settings) -> None:
    for one, other in NOT_BOTH:
        if attrgetter(one)(settings) and attrgetter(other)(settings):
            origin = settings.given[one].origin
            raise InvalidSetting(
                f"{one}: {other} is set, too ({settings.given[other].origin}); set one of them "
                f"({origin})",
                setting=one,
                origin=origin,
            )


def _check_followed(settings: Settings) -> None:
    """Refuse a followed table without a database or a mapping, and a mapping without a table."""
    store, given = settings.store, settings.given
    if store.table and not settings.on_postgres:
        path, reason = "store.table", "is in PostgreSQL: set store.url to postgresql://.., too"
    elif store.table and not store.columns:
        path, reason = "store.table", "needs [store.columns], which says what its columns are"
    elif store.columns and not store.table:
        path, reason = "store.columns", "says what the columns of store.table are: set that, too"
    elif store.table_mode != DECLARED["store.table_mode"].default and not store.table:
        path, reason = "store.table_mode", "is for store.table: set that, too"
    else:
        return
    raise InvalidSetting(
        f"{path}: {reason} ({given[path].origin})", setting=path, origin=given[path].origin
    )


def _check_tls(settings: Settings) -> None:
    """Refuse half of a pair, and an address that others can reach without TLS where it is
    required."""
    server, tls, given = settings.server, settings.server.tls, settings.given
    if tls.certificate and not tls.key:
        path, reason = "server.tls.certificate", "needs server.tls.key, the file of its private key"
    elif tls.key and not tls.certificate:
        path, reason = "server.tls.key", "is the key of server.tls.certificate: set that, too"
    elif tls.client_ca and not tls.certificate:
        path = "server.tls.client_ca"
        reason = "verifies clients over TLS: set server.tls.certificate and server.tls.key, too"
    elif tls.required and server.is_readable_on_the_way:
        path = "server.tls.required"
        reason = (
            f"others can reach {server.host}, and keys would go in plain text: set "
            "server.tls.certificate and server.tls.key, or name the proxy that ends TLS in "
            "server.trusted_proxies, or listen on 127.0.0.1"
        )
    else:
        return
    raise InvalidSetting(
        f"{path}: {reason} ({given[path].origin})", setting=path, origin=given[path].origin
    )


def _check_oidc(settings: Settings) -> None:
    """Refuse a provider without what signing in by it needs, and the reverse."""
    oidc, given = settings.console.oidc, settings.given
    if not oidc.issuer:
        usual = OidcSettings()
        names = [one.name for one in fields(oidc)]
        others = [name for name in names if getattr(oidc, name) != getattr(usual, name)]
        if not others:
            return
        path, reason = f"console.oidc.{others[0]}", "is for console.oidc.issuer: set that, too"
    elif not oidc.client_id:
        path, reason = "console.oidc.issuer", "needs console.oidc.client_id"
    elif not oidc.roles:
        path = "console.oidc.issuer"
        reason = "needs [console.oidc.roles], as nobody has access without a group there"
    elif "openid" not in oidc.scopes:
        path, reason = "console.oidc.scopes", "has to contain openid"
    else:
        return
    raise InvalidSetting(
        f"{path}: {reason} ({given[path].origin})", setting=path, origin=given[path].origin
    )


def _by_section() -> Iterator[tuple[str, str, dict[str, Setting]]]:
    for section in ("", *TABLES):
        about = TABLES[section].__doc__ if section else ""
        inside = {
            p.rpartition(".")[2]: one
            for p, one in DECLARED.items()
            if p.rpartition(".")[0] == section
        }
        yield section, about, inside


def _range(declared: Setting) -> str:
    least, most = (bound and str(bound[0]) for bound in (declared.least, declared.most))
    if least and most:
        return f"{least} to {most}"
    if least or most:
        return f"from {least}" if least else f"up to {most}"
    return ", ".join(declared.choices)


def _default(path: str) -> str:
    return _toml(DECLARED[path].default)


def _toml(value: object) -> str:
    """Value as TOML; text, numbers and lists of text look as in JSON."""
    import json

    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return json.dumps(value, ensure_ascii=False)
