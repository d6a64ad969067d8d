"""All types of destinations, by their names."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.delivery.outlets.elasticsearch import ELASTICSEARCH
from gateway.delivery.outlets.file import FILE
from gateway.delivery.outlets.http import HTTP
from gateway.delivery.outlets.loki import LOKI
from gateway.delivery.outlets.otlp import OTLP
from gateway.delivery.outlets.outlet_plan import OutletKind
from gateway.delivery.outlets.s3 import S3
from gateway.delivery.outlets.splunk_hec import SPLUNK_HEC
from gateway.delivery.outlets.syslog import SYSLOG

OUTLET_KINDS: Mapping[str, OutletKind] = {
    "elasticsearch": ELASTICSEARCH,
    "file": FILE,
    "http": HTTP,
    "s3": S3,
    "loki": LOKI,
    "otlp": OTLP,
    "splunk_hec": SPLUNK_HEC,
    "syslog": SYSLOG,
}
