"""The source of events in the gateway's own form, which may stand in envelopes. Pure."""

from __future__ import annotations

from gateway.ingest.sources.lines import native_event
from gateway.ingest.sources.source import Mapped, NotMapped, Owner, RecordSource
from gateway.ingest.strict_json import Plain, TooMuch, checked_record


class NativeSource(RecordSource):
    """A source whose records are events themselves; its definition says by which members they are
    known."""

    def _mapped(self, raw: bytes, owner: Owner, plain: Plain = None) -> Mapped | NotMapped | None:
        if self.knows(raw):
            return native_event(raw, owner)
        try:
            # What is no strict JSON is refused for that.
            checked_record(raw)
        except (TooMuch, RecursionError):
            pass
        return None
