"""Rows of the table of routes for the health of the gateway."""

from __future__ import annotations

from gateway.http.health import handlers
from gateway.http.openapi.parts import JSON, says
from gateway.http.openapi.route import PUBLIC, Route
from gateway.http.openapi.schemas import TEXT, named

HEALTH_ROUTES: tuple[Route, ...] = (
    Route("GET", "/readyz", handlers.readyz, PUBLIC, "readyz", "The gateway takes requests.",
          {200: says("Ready; what is wrong all the same, as lines or, by `Accept`, in JSON.",
                     content={"text/plain": {"schema": TEXT},
                              JSON: {"schema": named("Readiness")}})},
          problems=(503,), tag="operation"),
    Route("GET", "/v1/status", handlers.status, ("ops.read",), "status",
          "Whether delivery works, since when, and what to do if it does not: of all workers and "
          "replicas.",
          {200: says("`down`: a store cannot be read; `stalled`: events wait for over 5 seconds; "
                     "`slow`: the slowest hundredth of events has taken over a second for a "
                     "minute.", named("Status"))}, tag="operation"),
    Route("GET", "/v1/doctor", handlers.doctor, ("ops.read",), "doctor",
          "Checks of how the gateway is set up and what it runs into, each with what to do.",
          {200: says("Each check of which the facts are known; its code is a heading of "
                     "deploy/doctor.md.", named("Doctor"))}, tag="operation"),
)  # fmt: skip
