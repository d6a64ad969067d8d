"""Composition of a gateway from its parts: start order, and the drain at the end.

Start: log, keys, writer, hub and tail, enforcement, retention; then the port. Stop in reverse: no
new requests, streams end with their cursors, accepted events are stored, files are closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gateway.access.grants.copies import declare_copies
from gateway.access.keyring import Keyring
from gateway.access.missing_peppers import MissingPeppers
from gateway.access.sessions import Sessions
from gateway.adapters.files.agreement import agree_on_secrets
from gateway.adapters.files.folder import DataFolder
from gateway.adapters.sqlite.writer_server import WriterServer
from gateway.clock import Clock, SystemClock, until_next_poll
from gateway.cursor import format_cursor
from gateway.delivery.administration import Stores
from gateway.delivery.connect.lookup import Lookups
from gateway.delivery.running.deliveries import DeliverySupervisor
from gateway.delivery.running.outlets import Outlets
from gateway.delivery.running.parts import DeliveryParts
from gateway.delivery.running.stream import end_at_confirmed
from gateway.fleet.delivery_watch import DeliveryWatch
from gateway.fleet.live_streams import LiveStreams
from gateway.fleet.processes import Process, Processes
from gateway.http.connection.connections import Connections
from gateway.http.connection.vanished import VanishedPeers
from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.http.health.fleet_health import FleetHealth
from gateway.http.metrics.metrics import Metrics
from gateway.http.request.admission import AdmissionControl
from gateway.http.request.context import Context
from gateway.http.request.decoding import Decoder
from gateway.http.request.in_flight import InFlight
from gateway.http.request.limits import AppliedLimits, release_place
from gateway.ingest.sources.catalog import Sources
from gateway.ingest.writer import Writer
from gateway.log.identity import KeyedValues
from gateway.looking.looks import Looks
from gateway.notifier import Notifier
from gateway.oversight.access_log.access_log import AccessLog, AccessLogTimings
from gateway.oversight.clock_store import kept_state, open_clock
from gateway.oversight.clock_watch import ClockWatch
from gateway.oversight.consumer_watch import ConsumerLimits, ConsumerWatch
from gateway.oversight.detection.anomaly_detector import AnomalyDetector, Reaction
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.key_inventory import KeyInventory
from gateway.oversight.key_events import KeyEvents
from gateway.people.confirmations import Confirmations
from gateway.people.setup import sign_in_of
from gateway.runtime.background import Background
from gateway.runtime.declared import declare
from gateway.runtime.drain import drain, watch_for_failure
from gateway.runtime.first_key import make_first_key
from gateway.runtime.formats import formats_of
from gateway.runtime.outlets import outlet_types
from gateway.runtime.port import open_metrics_port, open_port
from gateway.runtime.process.compute_process import ComputeProcess
from gateway.runtime.process.event_loop import crowded, when_idle
from gateway.runtime.process.threads import worker_threads
from gateway.runtime.retention import Retention
from gateway.runtime.select_backend import shared_of
from gateway.runtime.stores import (
    open_consumers,
    open_destinations,
    open_files,
    open_followed,
    open_keys,
    open_log,
)
from gateway.scheduling.loop_work import LoopWork, Slot
from gateway.settings.declarations import Settings
from gateway.streaming.consumer_claims import ConsumerClaims
from gateway.streaming.consumer_pages import ConsumerPages
from gateway.streaming.enforcement import Enforcement
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.replay import Replays
from gateway.streaming.replay_cache import EventFailed
from gateway.streaming.session_streams import SessionStreams
from gateway.streaming.tail import Tail
from gateway.streaming.wakeups import WakeUps
from gateway.tasks import Tasks, Work
from gateway.tasks import stop as stop_tasks
from gateway.telemetry.running import traces_of
from gateway.wire.formatted import Wires

if TYPE_CHECKING:
    from gateway.runtime.worker import Worker

_LOGGER = logging.getLogger(__name__)
_TICK_SECONDS = 1.0
# Other workers drain at the same time and hand over what they accepted.
_FOLLOWERS_SECONDS = 3.0


@dataclass
class Running:
    """A started gateway: its address, its parts, and the first key if it was just made."""

    context: Context
    url: str
    first_key: str | None


@asynccontextmanager
async def running(
    settings: Settings,
    clock: Clock | None = None,
    worker: Worker | None = None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Running]:
    """Start a gateway, or one worker of it; leaving the context drains and stops it.

    `stop` is set when the `failure` of the context is.
    """
    async with AsyncExitStack() as stack:
        machine = clock or SystemClock()
        background = Background(machine)
        stack.push_async_callback(background.close)
        context = await _start_parts(settings, machine, stack, worker, background)
        url = await open_port(context, stack, worker.sockets if worker is not None else None)
        if worker is None or worker.writes:
            sockets = worker.metrics_sockets if worker is not None else None
            await open_metrics_port(context, stack, sockets)
        # After the start has succeeded, since the key is shown only this once.
        first_key = None if worker is not None else await make_first_key(context)
        watch_for_failure(context, background, stack, stop)
        stack.push_async_callback(drain, context)
        stack.push_async_callback(context.deliveries.close)
        yield Running(context, url, first_key)


async def _start_parts(
    settings: Settings,
    machine: Clock,
    stack: AsyncExitStack,
    worker: Worker | None,
    tasks: Tasks,
) -> Context:
    replica = f"{socket.gethostname()}-{os.getpid() if worker is None else os.getppid()}"
    own = Process.new(replica, 0 if worker is None else worker.number, settings.server.workers)
    await stack.enter_async_context(traces_of(settings.traces, own.name, machine, tasks))
    folder = DataFolder.of(settings)
    folder.warn_if_open()
    key_store = await open_keys(settings)
    stack.push_async_callback(key_store.close)
    was_kept = await kept_state(key_store) is not None
    clock = await open_clock(key_store, machine)
    # Before the log is opened: it compares events under its secret.
    await agree_on_secrets(folder, key_store, clock.now(), fleet=settings.on_postgres)
    peppers = folder.peppers
    log = await open_log(settings, clock, worker, tasks)
    stack.push_async_callback(log.close)
    consumer_store = await open_consumers(settings)
    stack.push_async_callback(consumer_store.close)
    destination_store = await open_destinations(settings)
    stack.push_async_callback(destination_store.close)
    retention = Retention(
        log, key_store, clock,
        age=settings.store.retention_age, size=settings.store.retention_bytes,
    )  # fmt: skip
    if not was_kept:
        # The kept time is better: a wrong clock may have recorded the newest events.
        clock.advance_to(await retention.newest())
    followed = await open_followed(settings, log, clock, stack, tasks)
    shared = await stack.enter_async_context(shared_of(settings, clock, tasks))
    writer = Writer(
        log,
        queue_events=settings.ingest.queue_events,
        queue_bytes=settings.ingest.queue_bytes,
        report=partial(tasks.report, "writer"),
    )
    writing = tasks.keep("writer", writer.run, writer.abandon)

    async def finish_writing() -> None:
        writer.close()
        await writing

    stack.push_async_callback(finish_writing)
    if worker is not None and worker.lock is not None:
        server = WriterServer(folder.writer_socket, log, writer.append_together)
        await server.start()
        stack.push_async_callback(server.close, _FOLLOWERS_SECONDS)

    record, watch = settings.record, settings.watch
    access_log_timings = AccessLogTimings(record.delay, record.merge, record.merge_ingest)
    access_log = AccessLog(writer, clock, log.epoch, access_log_timings)
    stack.push_async_callback(access_log.close)

    appends = Notifier()
    log.on_append(appends.notify)
    timings = StreamTimings(
        heartbeat=settings.stream.heartbeat,
        ping=settings.stream.ping,
        lifetime=settings.stream.max_age,
        flush=settings.stream.flush_ms / 1000,
    )

    def on_their_way() -> bool:
        """Whether events are under way between a producer and the live streams."""
        return hub.writing or writer.busy or hub.position < log.head

    slices = partial(
        LoopWork, clock, when_idle=when_idle, threads=stack.enter_context(worker_threads()),
        in_process=stack.enter_context(ComputeProcess()), slot=Slot(),
    )  # fmt: skip
    shares = slices(settings.limits.filter_percent / 100, busy=on_their_way)
    write_scheduler = WriteScheduler(lambda: hub.writing)
    hub = Hub(
        log, clock, lambda stream: replays.start(stream), timings, shares, shared.usage,
        # Of the thread of the event loop, but for streams that are behind: these take what is left.
        worked=lambda: time.thread_time() - write_scheduler.seconds,
    )  # fmt: skip
    hub.on_close(release_place)
    hub.on_close(end_at_confirmed)
    hub.on_close(access_log.stream_closed)
    keyring = Keyring(key_store, peppers.newest, clock)
    await keyring.refresh()
    enforcement = Enforcement(keyring, hub, log, clock)
    replays = Replays(hub, log, appends, clock, enforcement.freshness, tasks)
    tail = Tail(log, hub, Notifier(), clock, enforcement.freshness)
    log.on_append(tail.log_grew)
    findings = Findings(key_store, writer, clock, keyring)
    clock_watch = ClockWatch(key_store, machine, clock, findings)
    stack.push_async_callback(clock_watch.close)
    detector = AnomalyDetector(
        key_store, hub, findings, clock,
        warm_up=watch.warm_up, exists=keyring.exists,
        reaction=Reaction(watch.suspend_on, watch.throttle_on, watch.pause),
    )  # fmt: skip
    access_log.on_access(detector.observe)

    def event_failed(key_id: str, failed: EventFailed) -> None:
        tasks.report("replay", failed)
        detector.observe_failure(key_id, format_cursor(log.epoch, failed.offset))

    replays.on_event_failed(event_failed)
    stack.push_async_callback(detector.close)
    consumers = ConsumerClaims(consumer_store, clock, settings.limits.consumers)
    hub.on_close(consumers.stream_closed)
    consumer_watch = ConsumerWatch(
        consumer_store, log, writer, findings, clock,
        ConsumerLimits(
            age=settings.store.retention_age, size=settings.store.retention_bytes,
            expire_after=settings.consumers.expire_after,
        ),
    )  # fmt: skip
    consumers.on_gap(consumer_watch.record_gap)
    consumer_watch.on_risk(consumers.warn)
    stack.push_async_callback(consumers.close)
    key_events = KeyEvents(
        key_store, writer, hub, detector.profiles, clock, settings.keys.expiry_warnings
    )
    key_events.on_command(detector.operators.observe)
    enforcement.on_change(key_events.take)
    enforcement.on_change(detector.stored_defects.take)
    missing_peppers = MissingPeppers(keyring, clock)
    enforcement.on_change(missing_peppers.take)
    stack.push_async_callback(key_events.close)
    wake_ups = WakeUps(shared.signals, enforcement, log.poll_now if log.polls else None, tasks)
    stack.push_async_callback(wake_ups.close)
    writer.on_store(wake_ups.announce_append)
    alone = worker is None and not settings.on_postgres
    processes = Processes(own, key_store, clock, alone=alone)
    stack.push_async_callback(processes.close)
    limits = AppliedLimits(shared, settings.limits, clock)
    lookups = Lookups()
    stack.callback(lookups.close)
    sessions = Sessions(key_store, clock)
    session_streams = SessionStreams(sessions, clock, hub.end)
    oidc, peppers_now = settings.console.oidc, lambda: keyring.peppers
    sign_in = sign_in_of(oidc, key_store, peppers_now, lookups, clock, stack)
    outlets = Outlets(outlet_types(settings, clock, lookups), peppers_now, clock)
    declared = declare(settings, outlets, clock)
    if worker is None or worker.writes:
        await declared.store(Stores(destination_store, consumer_store, key_store, log))
    deliveries = DeliverySupervisor(
        DeliveryParts(
            store=destination_store, hub=hub, log=log, clock=clock, keyring=keyring,
            gate=enforcement.freshness, limits=limits, access_log=access_log, writer=writer,
            tasks=tasks, outlets=outlets,
        ),
        consumer_store,
        replica=f"{socket.gethostname()}-{os.getpid()}",
        report=findings.add,
        alone=alone,
    )  # fmt: skip
    consumer_watch.on_delivery_risk(deliveries.reports.at_risk)
    in_flight = InFlight(
        settings.limits.bytes_in_flight,
        max(settings.limits.key_bytes_in_flight, 2 * settings.ingest.max_request_bytes),
    )
    # Decoding is itself part of that way, so it yields to less.
    intake = slices(busy=lambda: hub.writing or writer.has_small)
    decoder = Decoder(clock, intake)
    sources = Sources(settings.declared_sources, clock.now)
    declare_copies(sources.copies())
    context = Context(
        settings=settings,
        clock=clock,
        log=log,
        appends=appends,
        writer=writer,
        hub=hub,
        canary=tail.canary,
        wires=Wires(formats_of(settings)),
        write_scheduler=write_scheduler,
        key_store=key_store,
        consumer_store=consumer_store,
        destination_store=destination_store,
        deliveries=deliveries,
        consumers=consumers,
        consumer_pages=ConsumerPages(consumers, clock),
        consumer_watch=consumer_watch,
        live_streams=LiveStreams(processes, hub, log, keyring, key_store, clock),
        keyring=keyring,
        enforcement=enforcement,
        missing_peppers=missing_peppers,
        access_log=access_log,
        detector=detector,
        inventory=KeyInventory(key_store, detector.profiles, findings, sessions, clock),
        usage=shared.usage,
        shared=shared,
        limits=limits,
        decoder=decoder,
        sources=sources,
        intake=intake,
        connections=Connections.of(settings.server, crowded=crowded, when_idle=when_idle),
        in_flight=in_flight,
        looks=Looks.of(settings.look, clock),
        keyed=KeyedValues(folder.log_secret()),
        session_streams=session_streams,
        admission=AdmissionControl(keyring, limits, in_flight, enforcement.freshness, sessions),
        sign_in=sign_in,
        metrics=worker.metrics if worker is not None else Metrics(),
        health_of=lambda context: FleetHealth(context, processes),
        followed=followed,
        files=open_files(settings),
        tasks=tasks,
    )
    works: dict[str, Work] = {
        "clock_watch": clock_watch.run,
        "tail": tail.run,
        "key_watch": enforcement.watch_keys,
        "role_watch": enforcement.watch_roles,
        "key_lives": enforcement.watch_lives,
        "record": access_log.run,
        "watchdog": detector.run,
        "key_events": key_events.run,
        "heartbeat": partial(_tick, context),
        "lags": partial(_measure_lags, context),
        "destinations": deliveries.run,
        "consumers": consumers.run,
        "sessions": session_streams.run,
        "consumer_pages": context.consumer_pages.run,
        "consumer_watch": consumer_watch.run,
        "delivery_watch": DeliveryWatch(context.health, processes, key_store, writer, clock).run,
        "loop_delay": partial(context.loop_delay.run, clock, context.connections),
    }
    if not alone:
        works["processes"] = processes.run
    if sign_in is not None:
        works["confirmations"] = Confirmations(sign_in, sessions, key_store, access_log, clock).run
    if worker is None or worker.writes:
        works["retention"] = retention.run
        works["inventory"] = context.inventory.run
    clock.began = clock.monotonic()
    for name, work in works.items():
        stack.push_async_callback(stop_tasks, [tasks.keep(name, work)])
    return context


async def _tick(context: Context) -> None:
    vanished = VanishedPeers(context.hub)
    while True:
        await context.clock.sleep(until_next_poll(context.clock, _TICK_SECONDS))
        context.hub.tick()
        context.health.look()
        vanished.probe()
        context.enforcement.tick()
        context.metrics.update(context)


async def _measure_lags(context: Context) -> None:
    while True:
        await context.clock.sleep(until_next_poll(context.clock, _TICK_SECONDS))
        await context.hub.measure_lags()
