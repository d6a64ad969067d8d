"""What services and shippers put around records, with the members that they have besides."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

Wrap = Callable[[dict[str, Any]], Any]


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))


def _base64(record: dict[str, Any]) -> str:
    return base64.b64encode(_text(record).encode()).decode()


def _event_bridge(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602", "account": "123456789012",
        "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3", "region": "us-east-1",
        "time": "2026-01-01T00:00:01Z", "resources": [], "detail": record,
    }  # fmt: skip


def _sns(text: str) -> dict[str, Any]:
    return {
        "Type": "Notification", "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:t", "Subject": "s", "Message": text,
        "Timestamp": "2026-01-01T00:00:01.000Z", "SignatureVersion": "1", "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.example/c.pem", "UnsubscribeURL": "https://sns.example/u",
    }  # fmt: skip


def _sqs(text: str) -> dict[str, Any]:
    return {"Records": [{
        "messageId": "059f36b4-87a3", "receiptHandle": "AQEBwJ", "body": text,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
        "messageAttributes": {}, "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:1:q",
        "awsRegion": "us-east-1",
    }]}  # fmt: skip


def _logs(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": "trail",
        "logStream": "s", "subscriptionFilters": ["f"],
        "logEvents": [{"id": "1", "timestamp": 1767225600000, "message": _text(record)}],
    }  # fmt: skip


def _cloud_event(members: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0", "type": "com.example.audit", "source": "/audit", "id": "1",
        "time": "2026-01-01T00:00:01Z", "datacontenttype": "application/json", **members,
    }  # fmt: skip


_AZURE = {
    "time": "2026-01-01T00:00:01Z", "resourceId": "/SUBSCRIPTIONS/1/RESOURCEGROUPS/G/C/AKS",
    "category": "kube-audit", "operationName": "Microsoft.ContainerService/diagnosticLogs",
}  # fmt: skip

ENVELOPES: dict[str, Wrap] = {
    "Records": lambda one: {"Records": [one]},
    "records": lambda one: {"records": [one]},
    "items": lambda one: {"items": [one]},
    "events": lambda one: {"events": [one]},
    "value": lambda one: {"@odata.context": "https://graph", "value": [one]},
    "array": lambda one: [one],
    "EventBridge": _event_bridge,
    "lookup-events": lambda one: {
        "Events": [{
            "EventId": "1", "EventName": "n", "EventSource": "s", "Username": "u",
            "EventTime": 1767225600, "Resources": [], "CloudTrailEvent": _text(one),
        }], "NextToken": "t",
    },
    "CloudWatch Logs": _logs,
    "CloudWatch subscription": lambda one: {
        "awslogs": {"data": base64.b64encode(gzip.compress(_text(_logs(one)).encode())).decode()}
    },
    "SNS": lambda one: _sns(_text(one)),
    "SQS": lambda one: _sqs(_text(one)),
    "SNS in SQS": lambda one: _sqs(_text(_sns(_text(one)))),
    "EventBridge in SQS": lambda one: _sqs(_text(_event_bridge(one))),
    "SNS for functions": lambda one: {"Records": [{
        "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:aws:sns:1",
        "Sns": _sns(_text(one)),
    }]},
    "Kinesis": lambda one: {"Records": [{
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": "1", "sequenceNumber": "49590338",
            "data": _base64(one), "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "shardId-000000000006:4959",
        "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn:aws:iam::1:role/r",
        "awsRegion": "us-east-2", "eventSourceARN": "arn:aws:kinesis:us-east-2:1:stream/s",
    }]},
    "Firehose": lambda one: {
        "requestId": "r", "timestamp": 1578090901599, "records": [{"data": _base64(one)}]
    },
    "Event Hub": lambda one: {"records": [{**_AZURE, "properties": one}]},
    "diagnostic setting": lambda one: {
        "records": [{**_AZURE, "properties": {"log": _text(one), "stream": "stdout", "pod": "p"}}]
    },
    "HEC": lambda one: {
        "time": 1767225600, "host": "h", "source": "s", "sourcetype": "_json", "index": "main",
        "event": one,
    },
    "HEC with text": lambda one: {"time": 1767225600, "host": "h", "event": _text(one)},
    "Splunk export": lambda one: {
        "preview": False, "offset": 0,
        "result": {"_raw": _text(one), "_time": "2026-01-01 00:00:00.000 UTC", "host": "h"},
    },
    "Pub/Sub push": lambda one: {
        "message": {
            "data": _base64(one), "messageId": "1", "message_id": "1", "attributes": {},
            "publishTime": "2026-01-01T00:00:01Z", "publish_time": "2026-01-01T00:00:01Z",
        },
        "subscription": "projects/p/subscriptions/s",
    },
    "CloudEvents": lambda one: _cloud_event({"data": one}),
    "CloudEvents batch": lambda one: [_cloud_event({"data": one})],
    "CloudEvents base64": lambda one: _cloud_event({"data_base64": _base64(one)}),
    "event hook": lambda one: {
        "eventType": "com.okta.event_hook", "eventTypeVersion": "1.0", "cloudEventsVersion": "0.1",
        "source": "https://example.okta.com/api/v1/eventHooks/w", "eventId": "b5a188b9",
        "eventTime": "2026-01-01T00:00:01Z", "contentType": "application/json",
        "data": {"events": [one]},
    },
    "LogEntry": lambda one: {
        "logName": "projects/p/logs/x", "insertId": "i", "timestamp": "2026-01-01T00:00:01Z",
        "receiveTimestamp": "2026-01-01T00:00:01Z", "resource": {"type": "t", "labels": {}},
        "protoPayload": one,
    },
}  # fmt: skip

# Lines in which text stands before a record.
LINES: dict[str, Callable[[str], str]] = {
    "container": lambda text: f"2026-01-01T00:00:01.1Z stdout F {text}",
    "container of another zone": lambda text: f"2026-01-01T00:00:01.1+02:00 stderr F {text}",
    "syslog": lambda text: f"Jan  1 00:00:01 host app[7]: {text}",
    "host": lambda text: f"host {text}",
    "RFC 7464": lambda text: f"\x1e{text}\n",
}
