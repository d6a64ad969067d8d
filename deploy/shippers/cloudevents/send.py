"""Sends CloudEvents to the gateway, in binary mode, until it has them."""

import os

import requests
from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

URL = os.environ.get("AUDIT_URL", "https://audit.example.org")
RETRY = Retry(
    total=40, backoff_factor=0.2, backoff_max=5,
    status_forcelist=(429, 502, 503, 504), allowed_methods=None,
)  # fmt: skip
SESSION = requests.Session()
SESSION.mount(URL, HTTPAdapter(max_retries=RETRY))
SESSION.headers["Authorization"] = f"Bearer {os.environ['AUDIT_KEY']}"


def send(event: CloudEvent) -> None:
    """Returns when the event is stored durably. Raises if it is refused, or nobody takes it."""
    message = to_binary(event, JSONFormat())
    answer = SESSION.post(
        f"{URL}/v1/events", data=message.body, headers=message.headers, timeout=30
    )
    answer.raise_for_status()


if __name__ == "__main__":
    attributes = {"specversion": "1.0", "id": "1", "source": "/sso", "type": "auth.user.login"}
    send(CloudEvent({**attributes, "outcome": "denied"}, {"actor": {"id": "ann"}}))
