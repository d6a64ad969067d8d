"""Rows of the table of routes for reviews of access, and usage over keys."""

from __future__ import annotations

from gateway.http.openapi.parts import JSON, headers, says
from gateway.http.openapi.route import Route
from gateway.http.openapi.schemas import TEXT, Schema, named
from gateway.http.review import parameters, report, usage

_PLAIN: Schema = {"schema": TEXT}

REVIEW_ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/review", report.review, ("keys.read",), "review",
          "Review of access: keys, roles, changes and who looked at what, as a report.",
          {200: says(
              "By `Accept` or `format`: the same rows, order and numbers in each.",
              headers=headers(Content_Disposition="The name of the file."),
              content={"text/markdown": _PLAIN, "text/html": _PLAIN, "text/csv": _PLAIN,
                       JSON: {"schema": named("AccessReview")}})},
          problems=(406,), parameters=parameters.REVIEW),
    Route("GET", "/v1/usage", usage.usage_of_all, ("usage.read",), "usage",
          "How much all keys were used, by key or owner, beside the week before.",
          {200: says("Keys without any use are left out.", named("UsageOfAll"))},
          parameters=usage.USAGE_OF_ALL),
)  # fmt: skip
