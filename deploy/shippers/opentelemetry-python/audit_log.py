"""Audit events by the SDK of OpenTelemetry; where to is said by its environment variables."""

import time

from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource


def audit_provider(service: str) -> LoggerProvider:
    """`shutdown` of the provider sends what still waits."""
    provider = LoggerProvider(resource=Resource.create({"service.name": service}))
    processor = BatchLogRecordProcessor(
        OTLPLogExporter(), schedule_delay_millis=200, max_queue_size=20_000
    )
    provider.add_log_record_processor(processor)
    return provider


def audit(logger: Logger, action: str, **attributes: str | int) -> None:
    """Send an event; `__` in names of attributes stands for a dot."""
    logger.emit(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber.INFO,
        event_name=action,
        attributes={name.replace("__", "."): value for name, value in attributes.items()},
    )


if __name__ == "__main__":
    audit_log = audit_provider("shop")
    audit(audit_log.get_logger("audit"), "user.login", user__id="ann", audit__outcome="denied")
    audit_log.shutdown()
