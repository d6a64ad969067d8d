"""The watch over logs of tests finds what it is for."""

from __future__ import annotations

import logging

import pytest

from gateway.access.credentials.token import new_token
from tests.support.cases import every
from tests.support.log_secrets import SecretsInLog, assert_no_secrets

KEY = "alpk_" + "a" * 12 + "_" + "b" * 49
TICKET = "alpt_" + "c" * 40 + "." + "d" * 43


@every([KEY, f"Authorization: Bearer {TICKET}", f"Cookie: __Host-audit-session={'e' * 43}"])
def test_keys_tickets_and_cookies_are_found_and_not_told(secret: str) -> None:
    with pytest.raises(AssertionError) as failed:
        assert_no_secrets(f"fine\nfailed for {secret}")
    assert secret not in str(failed.value)
    handler = SecretsInLog()
    handler.handle(logging.makeLogRecord({"name": "gateway.http", "msg": f"x {secret}"}))
    assert handler.found


def test_a_new_key_is_what_is_looked_for_and_its_id_is_not() -> None:
    key_id, token = new_token()
    with pytest.raises(AssertionError):
        assert_no_secrets(token)
    assert_no_secrets(f"the key {key_id} is revoked")
