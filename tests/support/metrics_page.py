"""The table of deploy/metrics.md, from what a scrape shows.

python -m tests.support.metrics_page      writes it
"""

from __future__ import annotations

from pathlib import Path

from gateway.delivery.health import Status
from gateway.delivery.running.meter import DestinationNumbers
from gateway.http.metrics.exposition import MetricsCollector
from gateway.http.metrics.metrics import Metrics
from gateway.log.lag import LogLag
from gateway.oversight.consumer_watch import ConsumerNumbers

PAGE = Path(__file__).parents[2] / "deploy" / "metrics.md"
_CONSUMER = ConsumerNumbers("", "", 0, 0, 0, 0)
_DESTINATION = DestinationNumbers("", "", LogLag(0, 0), Status())
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"


def page(text: str) -> str:
    """The page with the table as it has to be."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    rows = ["| metric | type | labels | what |", "| --- | --- | --- | --- |"]
    rows += map("| {} |".format, map(" | ".join, _cells()))
    return "\n".join([*rows, ""])


def _cells() -> list[tuple[str, str, str, str]]:
    return [
        (
            f"`{_SHOWN.get(family.type, '{}').format(family.name)}`",
            "gauge" if family.type == "info" else family.type,
            " ".join(sorted({f"`{one}`" for sample in family.samples for one in sample.labels})),
            family.documentation,
        )
        for family in MetricsCollector(
            Metrics().rows(), {"": 0}, [_CONSUMER], [_DESTINATION]
        ).collect()
    ]


_SHOWN = {"counter": "{}_total", "info": "{}_info"}

if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
