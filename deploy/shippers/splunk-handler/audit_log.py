"""Sends log records of a Python program to the gateway as Splunk's HTTP Event Collector."""

import json
import logging
import os

from splunk_handler import SplunkHandler

URL = os.environ.get("AUDIT_URL", "https://audit.example.org")


def audit_handler() -> SplunkHandler:
    """A handler whose records wait in memory until the gateway has them."""
    return SplunkHandler(
        host="", port="", token=os.environ["AUDIT_KEY"], index="main", sourcetype="audit",
        protocol=URL.partition(":")[0], url=f"{URL}/services/collector/event",
        flush_interval=1, force_keep_ahead=True, queue_size=10_000,
        timeout=60, retry_count=60, retry_backoff=0.1,
    )  # fmt: skip


def audit_logger(handler: SplunkHandler) -> logging.Logger:
    logger = logging.getLogger("audit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return logger


def audit(logger: logging.Logger, action: str, **members: object) -> None:
    """One event in the gateway's own form."""
    logger.info(json.dumps({"category": "auth", "action": action, **members}))


if __name__ == "__main__":
    audit(audit_logger(audit_handler()), "user.login", outcome="denied", actor={"id": "ann"})
