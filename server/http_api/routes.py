"""The FastAPI application: models, documents, and the hot endpoints for whoever does not come by the hot path.

It is imported late (see ``site.py``), so nothing that the hot path needs may live here.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from server.domain import RERANK_TASK, ModelInfo
from server.errors import InvalidRequest, NotFound, ServeError
from server.http_api.asgi import HotAsgi, Receive, Send
from server.http_api.docs_page import PAGE
from server.http_api.openai.errors import error_body
from server.http_api.openapi import Describe, ModelEntry, ModelList, document, model_out
from server.http_api.recommend import Endpoint
from server.http_api.schemas import encode
from server.http_api.status import STATUS
from server.request_ids import chosen_request_id
from server.service import Service
from server.settings import Settings
from server.text_domain import TEXT_TASK

if TYPE_CHECKING:
    from server.http_api.openai.endpoint import TextEndpoint


class Paths(Protocol):
    """A product's endpoint."""

    @property
    def paths(self) -> Sequence[tuple[str, Sequence[str]]]:
        """Where it is, with the methods there."""
        ...

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, by ASGI."""
        ...


def limits_told(settings: Settings) -> dict[str, int]:
    """What the list of models says that a recommendation may ask of this server."""
    return {
        "max_history_ids": settings.max_history,
        "max_candidates": settings.max_candidates,
        "max_exclude": settings.max_exclude,
        "max_batch_requests": settings.max_batch_requests,
        "max_body_bytes": settings.max_body_bytes,
        "max_deadline_ms": int(settings.max_deadline_ms),
    }


def build(
    service: Service,
    endpoints: Sequence[Endpoint],
    *,
    limits: dict[str, int],
    max_body_bytes: int,
    version: str,
    keys_required: bool,
    text: tuple[Sequence[TextEndpoint], dict[str, int]] = ((), {}),
    more: Sequence[Paths] = (),
    documents: Sequence[Describe] = (),
    task_limits: Mapping[str, dict[str, int]] | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        service: the product.
        endpoints: the hot ones, served here too.
        limits: of this server, shown with each model's own.
        max_body_bytes: body limit of the hot endpoints.
        version: of the server.
        keys_required: whether the document says that calls need a key.
        text: the text endpoints, and the server's limits of texts.
        more: further products, as ASGI applications.
        documents: what adds each of them to the OpenAPI document.
        task_limits: the server's limits of models of further tasks.
    """
    app = FastAPI(title="Vitrine", version=version, openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False  # a path that is nearly right is told so, not sent elsewhere
    for endpoint in endpoints:
        hot: Any = HotAsgi(endpoint, max_body_bytes)
        app.router.routes.append(
            Route(endpoint.path.decode(), hot, methods=["POST"], include_in_schema=False)
        )
    writers, text_limits = text
    for writer in writers:
        app.router.routes.append(Route(writer.path, writer, methods=["POST"], include_in_schema=False))
    paths = [endpoint.path.decode() for endpoint in endpoints] + [writer.path for writer in writers]
    for product in more:
        for path, methods in product.paths:
            app.router.routes.append(Route(path, product, methods=list(methods), include_in_schema=False))
            paths.append(path)
    paths += ["/v1/models", "/healthz", "/readyz", "/docs", "/openapi.json"]

    by_task = {TEXT_TASK: text_limits, RERANK_TASK: {}, **(task_limits or {})}

    def listed(info: ModelInfo) -> ModelEntry:
        return model_out(info, by_task.get(info.task, limits))

    @app.get("/v1/models")
    async def list_models() -> Response:
        return _json(200, ModelList("list", [listed(info) for info in service.models()]))

    @app.get("/v1/models/{name:path}")  # names of models elsewhere may hold a slash
    async def get_model(name: str) -> Response:
        infos = service.models()
        for info in infos:
            if info.name == name:
                return _json(200, listed(info))
        known = ", ".join(info.name for info in infos)
        raise NotFound(f"there is no model {name[:100]!r} here; there are {known}", field="name")

    @app.get("/openapi.json")
    async def openapi() -> Response:
        models = service.models()
        ranks = next((info for info in models if info.task not in by_task), None)
        written = next((info.name for info in models if info.task == TEXT_TASK), None)
        return _json(
            200,
            document(
                version,
                ranks.sample_ids if ranks else None,
                keys_required,
                text_model=written,
                products=documents,
                max_k=ranks.limits["max_k"] if ranks else 100,
            ),
        )

    @app.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE)

    @app.exception_handler(ServeError)
    async def on_serve_error(request: Request, error: ServeError) -> Response:
        request_id = _id_of(request)
        body = error_body(request.url.path, error, request_id)
        return Response(body, STATUS[error.code], {"x-request-id": request_id}, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            there = ", ".join(paths)
            return await on_serve_error(
                request,
                NotFound(f"there is no {request.url.path[:200]} here; there are {there}", field="path"),
            )
        request_id = _id_of(request)
        allow = (error.headers or {}).get("Allow", "")
        message = (
            f"{request.method} is not for {request.url.path[:200]}; use {allow}"
            if allow
            else str(error.detail)
        )
        refusal = InvalidRequest(message, field="method", limit=allow or None)
        return Response(
            error_body(request.url.path, refusal, request_id),
            error.status_code,
            {"x-request-id": request_id, **(error.headers or {})},
            media_type="application/json",
        )

    return app


def _id_of(request: Request) -> str:
    return chosen_request_id(dict(request.scope["headers"]).get(b"x-request-id"))


def _json(status: int, body: object) -> Response:
    return Response(encode(body), status, media_type="application/json")
