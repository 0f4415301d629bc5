"""One upstream of one provider: where it is, with which key, and what it says when it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from providers.rejection import MAX_ERROR_BYTES, read_rejection, rejection_to_error
from providers.upstream import RetryPolicy, Timeouts, Upstream, UpstreamAnswer, UpstreamCall
from streaming.errors import AgentServerError, UpstreamError

_OK_STATUSES = range(200, 300)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UpstreamService:
    """Asks one upstream. `key_headers` go with every request; `secrets` are in no error.

    The client is shared, and closed by who made it.
    """

    provider: str
    base_url: str
    upstream: Upstream
    key_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    async def ask(
        self,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        method: str | None = None,
        deadline: float | None = None,
    ) -> UpstreamAnswer:
        """The answer, if its status says success; a body is posted as JSON.

        Without a `method` it is POST with a body, GET without one. With a `deadline`, in seconds of
        the loop's clock, it is asked once, and all is over by then.

        Raises:
            UpstreamError: there is no answer, or it is an error of the upstream.
            CallerError: the upstream refuses the request.
        """
        sent = {**headers, **self.key_headers}
        if body is not None:
            sent["content-type"] = "application/json"
        call = UpstreamCall(
            provider=self.provider,
            url=self.base_url + path,
            method=method or ("GET" if body is None else "POST"),
            headers=sent,
            body=body,
            timeouts=self.timeouts,
            retry=self.retry,
            secrets=self.secrets,
        )
        if deadline is None:
            answer = await self.upstream.request(call)
        else:
            answer = await self.upstream.attempt(call, deadline)
        _log.debug(
            "Upstream answered",
            provider=self.provider,
            status=answer.status,
            upstream_request_id=answer.request_id,
        )
        if answer.status in _OK_STATUSES:
            return answer
        async with answer:
            raise await self._rejection(answer)

    async def _rejection(self, answer: UpstreamAnswer) -> AgentServerError:
        try:
            body = await answer.body(MAX_ERROR_BYTES)
        except UpstreamError:
            # The status says enough where the body is cut or endless.
            body = b""
        rejection = read_rejection(body)
        if rejection.message and answer.request_id:
            message = f"{rejection.message} (request {answer.request_id})"
            rejection = replace(rejection, message=message)
        error = rejection_to_error(
            rejection,
            provider=self.provider,
            status=answer.status,
            retry_after_seconds=answer.retry_after_seconds,
            secrets=self.secrets,
        )
        told = answer.headers.get("x-should-retry")
        if isinstance(error, UpstreamError) and told in {"true", "false"}:
            # The upstream knows best, whatever its status says.
            error.is_retryable = told == "true"
        return error
