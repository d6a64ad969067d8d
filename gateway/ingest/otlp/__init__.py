"""OTLP/HTTP, the protocol of OpenTelemetry, for log records: requests taken apart, and answers."""
