"""One OpenAI-compatible server elsewhere: its connections, its breaker, what it serves, and one attempt at a text.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from server.engines.breaker import Breaker
from server.engines.upstream_wire import EventReader, Piece, refused
from server.errors import DeadlineExceeded, InvalidRequest, NotReady, Overloaded, ServeError, UpstreamFault

CONNECT_S = 2.0
PROBE_S = 5.0
READ_S = 60.0  # between two events; the text's own deadline is usually sooner


@dataclass(frozen=True, slots=True)
class Served:
    """What a server serves.

    Attributes:
        name, version: of the model there.
        max_context: in its tokens; 0 where it does not say.
        created_s: Unix time.
    """

    name: str
    version: str
    max_context: int
    created_s: int


@dataclass(slots=True)
class Opened:
    """An attempt that has its first token: what came so far, and the rest."""

    first: list[Piece]
    rest: AsyncGenerator[list[Piece], None]
    response: httpx.Response = field(repr=False)

    async def aclose(self) -> None:
        """Let the connection go; where the text is not at its end, the server there is left in the middle of it."""
        await self.rest.aclose()
        await self.response.aclose()


class UpstreamServer:
    """One base URL.

    Attributes:
        url: base of the OpenAI paths, with its "/v1".
        breaker: whether it should be asked.
        served: what it serves, once known.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        key: str,
        connections: int,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.breaker = Breaker()
        self.served: Served | None = None
        self._model = model
        self._clock = clock
        headers = {"accept-encoding": "identity", "content-type": "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S, pool=CONNECT_S),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
            trust_env=False,  # a proxy for the outside world is none for the machine next door
        )

    async def look(self) -> None:
        """Find out what is served there; the breaker learns whether anything is.

        Raises:
            ServeError: nothing answers, or not the model that is wanted.
        """
        try:
            response = await self._client.get(f"{self.url}/models", timeout=PROBE_S)
        except httpx.HTTPError as error:
            self.breaker.failed(self._clock())
            raise NotReady(f"the upstream server does not answer ({type(error).__name__})") from error
        if response.status_code != 200:
            self.breaker.failed(self._clock())
            raise refused(response.status_code, response.content, None)
        self.served = self._read(response.content)
        self.breaker.worked()

    async def open(self, path: str, make: Callable[[str], bytes], deadline_s: float) -> Opened:
        """Ask for a text and wait for its first token.

        Args:
            path: of the endpoint.
            make: the body for the name of the model there.
            deadline_s: seconds that are left for the whole text, told to the server there.

        Raises:
            InvalidRequest: it refuses the request; asking again would not help.
            ServeError: it is full, not there, or failed; another one may be asked.
        """
        response: httpx.Response | None = None
        good = False
        try:
            assert self.served is not None
            request = self._client.build_request(
                "POST",
                self.url + path,
                content=make(self.served.name),
                headers={"x-deadline-ms": f"{max(1.0, deadline_s * 1e3):.0f}"},
            )
            response = await self._client.send(request, stream=True)
            if response.status_code != 200:
                body = await response.aread()
                raise refused(response.status_code, body, response.headers.get("retry-after"))
            rest = _pieces(response)
            first: list[Piece] = []
            async for pieces in rest:
                first += pieces
                if any(piece.text or piece.reason is not None or piece.done for piece in pieces):
                    break
            else:
                raise UpstreamFault("the upstream server ended the stream before its first token")
            self.breaker.worked()
            good = True
            return Opened(first, rest, response)
        except (
            httpx.PoolTimeout
        ) as error:  # our own connections are used up, which says nothing of the server
            raise NotReady("all connections to the upstream server are in use") from error
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            self.breaker.failed(self._clock())
            raise DeadlineExceeded(
                "the upstream server took the request and did not answer in time", stage="engine"
            ) from error
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:  # it was there, and broke off
            self.breaker.failed(self._clock())
            raise UpstreamFault(f"the upstream server broke off ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            self.breaker.failed(self._clock())
            raise NotReady(f"the upstream server does not answer ({type(error).__name__})") from error
        except (InvalidRequest, Overloaded):
            self.breaker.worked()  # it is well, and said so
            raise
        except ServeError:
            self.breaker.failed(self._clock())
            raise
        finally:
            if not good:
                self.breaker.left()
                if response is not None:
                    await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _read(self, body: bytes) -> Served:
        try:
            listed: list[dict[str, Any]] = msgspec.json.decode(body)["data"]
            texts = [one for one in listed if one.get("task") in (None, "text_generation")]
            found = next((one for one in texts if self._model in ("", one["id"])), None)
            if found is None:
                known = ", ".join(str(one["id"]) for one in texts) or "none"
                raise NotReady(f"the upstream server serves no model {self._model!r} (there are: {known})")
            limits = found.get("limits") or {}
            context = found.get("max_model_len") or limits.get("max_context") or 0
            return Served(
                str(found["id"]),
                str(found.get("version") or ""),
                int(context),
                int(found.get("created") or 0),
            )
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotReady("the upstream server does not list models as OpenAI does") from error


async def _pieces(response: httpx.Response) -> AsyncGenerator[list[Piece], None]:
    reader = EventReader()
    try:
        async for data in response.aiter_raw():
            pieces = reader.feed(data)
            if pieces:
                yield pieces
    except httpx.HTTPError as error:
        raise UpstreamFault("the connection to the upstream server broke within the text") from error
