"""`/v1/session/oidc`: sign-in to the console by an identity provider.

The browser goes to the provider and comes back with a code. What it comes back from is another
site, so that the cookie of the begun sign-in is `SameSite=Lax`; that of the session, which is set
then, is sent by the console's own requests alone.
"""

from __future__ import annotations

import html
import re

from aiohttp import web

from gateway.access.people import new_person
from gateway.access.usage.access import SIGNED_IN
from gateway.errors import GatewayError, InvalidRequest, NotFound
from gateway.http.connection.address import is_secure
from gateway.http.console.assets import console
from gateway.http.credentials.cookie import (
    cookie_value,
    session_secret,
    set_cookie,
    set_session_cookie,
)
from gateway.http.credentials.guard import check_host
from gateway.http.query.query import refuse_unknown
from gateway.http.request.context import CONTEXT, Context
from gateway.http.response.problem import REQUEST_ID, Rendered
from gateway.http.response.request_metrics import BY_OIDC
from gateway.http.response.request_metrics import SIGNED_IN as SUCCESS
from gateway.people.pending import HOST_COOKIE, LIFE_SECONDS, PLAIN_COOKIE
from gateway.people.sign_in import SignIn

BEGIN, BACK = "/v1/session/oidc", "/v1/session/oidc/callback"
# A view of the console, without the `#/` before it.
_VIEW = re.compile(r"[A-Za-z0-9_][!-~]{0,1023}|", re.ASCII)
# What comes back, but for what some providers add.
_ANSWER = ("code", "state", "iss", "error")
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not signed in · Audit log gateway</title>
<link rel="stylesheet" href="{styles}">
</head>
<body>
<main class="sign-in" id="main">
<h1>You are not signed in</h1>
<p class="problem" role="alert">{detail}</p>
<p class="quiet"><code>{code}</code> · request {request_id}</p>
<p><a class="button" href="{begin}">Try again</a>
<a class="button" href="/">Sign in otherwise</a></p>
</main>
</body>
</html>
"""


async def begin(request: web.Request) -> web.Response:
    """`GET /v1/session/oidc`: to the provider. `to` is the view of the console to come back to."""
    refuse_unknown(request.query, ("to",))
    context, sign_in = _sign_in_of(request)
    check_host(request)
    to = request.query.get("to", "")
    if not _VIEW.fullmatch(to):
        raise InvalidRequest("to: the address of a view of the console is needed", parameter="to")
    await context.admission.arrive(request, "identify")
    scheme = "https" if is_secure(request) else "http"
    url, cookie = await sign_in.begin(f"{scheme}://{request.host}{BACK}", to)
    return _moved(url, [_pending_cookie(request, cookie, LIFE_SECONDS)])


async def come_back(request: web.Request) -> web.Response:
    """`GET /v1/session/oidc/callback`: from the provider, to a session. Providers add parameters of
    their own, which are passed over."""
    context, sign_in = _sign_in_of(request)
    check_host(request)
    access = await context.admission.arrive(request, "identify")
    answer = {name: request.query[name] for name in _ANSWER if name in request.query}
    # Anybody can begin a sign-in, and each answer is a question to the provider.
    await context.limits.refuse_failing(request, access.address or None)
    try:
        if any(len(request.query.getall(name)) > 1 for name in answer):
            raise InvalidRequest("the provider's answer has something twice")
        arrival = await sign_in.finish(_pending(request), answer)
        # Also if the person has no access: the record names whoever was refused.
        access.key = new_person(arrival.identity.person, ())
        key = access.key = await sign_in.admit(arrival.identity)
    except GatewayError as error:
        if error.status < 500:
            await context.limits.failed(request, access.address or None)
        raise
    await context.enforcement.poll_keys()
    sessions, before = context.admission.sessions, session_secret(request)
    if before is not None and (found := await sessions.find(before)) is not None:
        await sessions.end([found.id])
    confirmed = sign_in.confirmation(arrival.refresh)
    secret, session = await sessions.open(key.id, access.address, access.client, confirmed)
    access.action, access.session = SIGNED_IN, session.id
    context.requests.sign_ins[BY_OIDC, SUCCESS] += 1
    cookies = [set_session_cookie(request, secret), _pending_cookie(request, "", 0)]
    return _moved(f"/#/{arrival.to}" if arrival.to else "/", cookies)


def refusal_page(request: web.Request, error: GatewayError) -> Rendered:
    """What a person sees who could not sign in. It is no part of the console, and has no script."""
    made = console()
    page = _PAGE.format(
        styles=html.escape(made.styles),
        detail=html.escape(error.detail, quote=False),
        code=html.escape(error.code),
        request_id=html.escape(request[REQUEST_ID]),
        begin=BEGIN,
    )
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }
    if request.path == BACK:
        headers["Set-Cookie"] = _pending_cookie(request, "", 0)
    return Rendered(error.status, "text/html; charset=utf-8", page.encode(), headers)


def provider_name(context: Context) -> str:
    """What the page calls the provider; "" if there is none."""
    issuer = context.settings.console.oidc.issuer
    return issuer.partition("://")[2].partition("/")[0] if context.sign_in is not None else ""


def _sign_in_of(request: web.Request) -> tuple[Context, SignIn]:
    context = request.app[CONTEXT]
    if context.sign_in is None or not context.settings.console.enabled:
        raise NotFound(
            "people sign in with keys here: no identity provider is set (console.oidc.issuer)",
            code="no_provider",
        )
    return context, context.sign_in


def _pending(request: web.Request) -> str:
    return cookie_value(request, HOST_COOKIE if is_secure(request) else PLAIN_COOKIE) or ""


def _pending_cookie(request: web.Request, value: str, seconds: int) -> str:
    name = HOST_COOKIE if is_secure(request) else PLAIN_COOKIE
    return set_cookie(request, name, value, seconds, site="Lax")


def _moved(url: str, cookies: list[str]) -> web.Response:
    response = web.Response(status=303, headers={"Location": url, "Cache-Control": "no-store"})
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response
