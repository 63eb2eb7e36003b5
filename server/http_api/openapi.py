"""The OpenAPI document, from the structs that decode and encode: what it shows is what is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from server.domain import ModelInfo
from server.errors import InvalidRequest, NotFound, ServeError
from server.http_api.error_examples import REQUEST_ID, error_examples
from server.http_api.schemas import EventIn, FiltersIn, RecommendIn, RecommendOut
from server.http_api.status import ErrorBody, error_detail

MEANING = {
    400: "the body does not parse",
    401: "no API key, or a wrong one",
    403: "the key may not do this",
    404: "no such model or path",
    405: "another method is for this path; Allow says which",
    408: "the request did not arrive whole in time",
    413: "the body is over the limit; it was not read",
    422: "a field is wrong: names it, its value, the limit and what to do",
    429: "full; Retry-After says when to try again",
    431: "the request line and headers are over the limit",
    500: "our fault; ask the operator with the request id",
    503: "starting or stopping; try again",
    504: "the deadline cannot be met, where the fallback tier is off",
}
REQUEST_EXAMPLE: dict[str, Any] = {
    "history": ["sku-1", "sku-2"],
    "k": 3,
    "filters": {"in_stock": True},
    "deadline_ms": 50,
}
ANSWER_EXAMPLE: dict[str, Any] = {
    "items": [{"item_id": "sku-9", "score": 3.1, "rank": 1}, {"item_id": "sku-4", "score": 2.7, "rank": 2}],
    "served_by": "model",
    "model": {"name": "shop", "version": "3"},
    "unknown_items": 0,
    "timings_ms": {"queue": 0.11, "encode": 0.05, "engine": 1.2, "post": 0.06, "total": 1.6},
}


_NO_MODEL = NotFound("there is no model 'shoes' here; there are shop", field="name")


# Adds a product to the paths and schemas of the document, which grow; the last are the meanings of the statuses.
Describe = Callable[[dict[str, Any], dict[str, Any], dict[int, str]], None]


class ModelEntry(msgspec.Struct):
    """A served model."""

    id: str
    object: str
    owned_by: str
    created: int
    version: str
    task: str
    engine: str
    precision: str
    items: int
    limits: dict[str, int]
    sample_ids: tuple[str, ...]
    ready: bool
    item_fields: tuple[str, ...]
    flags: tuple[str, ...]


class ModelList(msgspec.Struct):
    """All served models, in the form that OpenAI's clients read."""

    object: str
    data: list[ModelEntry]


def model_out(info: ModelInfo, limits: dict[str, int]) -> ModelEntry:
    """The wire form of a model; ``limits`` of the server are added to the model's own."""
    return ModelEntry(
        info.name,
        "model",
        "vitrine",
        int(info.created_unix_s),
        info.version,
        info.task,
        info.engine,
        info.precision,
        info.items,
        {**info.limits, **limits},
        info.sample_ids,
        info.ready,
        info.item_fields,
        info.flags,
    )


def document(
    version: str,
    sample_ids: tuple[str, ...] | None,
    keys_required: bool,
    *,
    text_model: str | None = None,
    products: Sequence[Describe] = (),
    max_k: int = 100,
) -> dict[str, Any]:
    """The whole document.

    Args:
        version: of the server.
        sample_ids: ids of the served catalogue, so that the example can be sent as it is; None: no recommender.
        keys_required: whether calls need a key.
        text_model: name of the text model, so that its examples can be sent too; None: there is none.
        products: what adds each further product that is served.
        max_k: most items that the served model can return.
    """
    structs = (RecommendIn, EventIn, FiltersIn, RecommendOut, ErrorBody, ModelList)
    _, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    components["RecommendIn"]["properties"]["k"]["maximum"] = max_k
    wrong = InvalidRequest(f"k is 0; ask for 1 to {max_k} items", field="k", limit=f"1 .. {max_k}")
    example = {**REQUEST_EXAMPLE, "history": list(sample_ids[:2])} if sample_ids else REQUEST_EXAMPLE
    batch_in = {
        "type": "object",
        "required": ["requests"],
        "properties": {"requests": {"type": "array", "minItems": 1, "items": _ref("RecommendIn")}},
        "additionalProperties": False,
    }
    batch_out = {
        "type": "object",
        "properties": {
            "results": {"type": "array", "items": {"anyOf": [_ref("RecommendOut"), _ref("ErrorBody")]}},
            "timings_ms": {"type": "object", "properties": {"total": {"type": "number"}}},
        },
    }
    paths = {
        "/v1/recommendations": {
            "post": _operation(
                "Recommend items to one shopper",
                "recommend",
                _ref("RecommendIn"),
                example,
                _ref("RecommendOut"),
                ANSWER_EXAMPLE,
                error_examples("/v1/recommendations", max_k),
            )
        },
        "/v1/recommendations/batch": {
            "post": _operation(
                "Recommend items to many shoppers, a result or an error for each",
                "recommendBatch",
                batch_in,
                {"requests": [example, {"history": [], "k": 0}]},
                batch_out,
                {
                    "results": [ANSWER_EXAMPLE, _body(wrong.inside("requests[1]."))],
                    "timings_ms": {"total": 2.4},
                },
                {
                    **error_examples("/v1/recommendations/batch", max_k),
                    422: InvalidRequest(
                        "requests has 0 entries; send 1 to 256", field="requests", limit="1 .. 256 entries"
                    ),
                },
            )
        },
        "/v1/models": {"get": _read("All served models", "listModels", _ref("ModelList"))},
        "/v1/models/{name}": {
            "get": {
                **_read("One served model", "getModel", _ref("ModelEntry"), 404),
                "parameters": [
                    {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
            }
        },
        "/healthz": {"get": _read("Whether the event loop turns", "healthz", {"type": "object"}, 503)},
        "/readyz": {
            "get": _read(
                "Whether requests should be sent here, and if not why", "readyz", {"type": "object"}, 503
            )
        },
    }
    out: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Vitrine",
            "version": version,
            "description": "Recommendations and texts for online shops.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }
    if sample_ids is None:
        del paths["/v1/recommendations"], paths["/v1/recommendations/batch"]
    if text_model is not None:
        from server.http_api.openai.document import add_text

        add_text(paths, components, text_model, MEANING)
    for describe in products:
        describe(paths, components, MEANING)
    if keys_required:
        components_out = out["components"]
        components_out["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        out["security"] = [{"bearer": []}, {"key": []}]
    return out


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _operation(
    summary: str,
    name: str,
    takes: dict[str, Any],
    example: Any,
    gives: dict[str, Any],
    answer: Any,
    errors: dict[int, ServeError],
) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {
            "description": "the answer",
            "headers": {
                "server-timing": {"description": "milliseconds per stage", "schema": {"type": "string"}},
                "x-request-id": {"description": "yours, or one made here", "schema": {"type": "string"}},
            },
            "content": {"application/json": {"schema": gives, "example": answer}},
        }
    }
    for status, error in errors.items():
        responses[str(status)] = _error(status, error)
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": takes, "example": example}},
        },
        "responses": responses,
    }


def _read(summary: str, name: str, gives: dict[str, Any], *errors: int) -> dict[str, Any]:
    responses = {"200": {"description": "the answer", "content": {"application/json": {"schema": gives}}}}
    for status in errors:
        responses[str(status)] = (
            _error(404, _NO_MODEL) if status == 404 else {"description": "no; the body says why"}
        )
    return {"summary": summary, "operationId": name, "responses": responses}


def _error(status: int, error: ServeError) -> dict[str, Any]:
    return {
        "description": MEANING[status],
        "content": {"application/json": {"schema": _ref("ErrorBody"), "example": _body(error)}},
    }


def _body(error: ServeError) -> Any:
    return msgspec.to_builtins(ErrorBody(error_detail(error, REQUEST_ID)))
