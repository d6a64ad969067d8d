"""Names of all formats; native first."""

from __future__ import annotations

FORMAT_NAMES = ("native", "cloudevents", "ocsf", "ecs", "cef", "rfc5424")
# Those that are no JSON.
TEXT_FORMATS = ("cef", "rfc5424")
