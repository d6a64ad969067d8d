"""Traces of the gateway, made by the SDK of OpenTelemetry and sent as OTLP over HTTP."""
