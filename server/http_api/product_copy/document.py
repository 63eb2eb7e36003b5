"""Product copy's part of the OpenAPI document, from the structs that decode and encode it."""

from __future__ import annotations

from typing import Any

import msgspec

from server.http_api.error_examples import error_examples
from server.http_api.product_copy.answers import CheckedOut, CopyOut, EndOut, PartOut
from server.http_api.product_copy.jobs import PATH, ItemsIn, JobList, JobOut
from server.http_api.product_copy.shapes import AskedIn, CopyIn

EXAMPLE = {
    "product": {
        "title": "Brimora Kettle 1.7 l",
        "brand": "Brimora",
        "category": "Kitchen / Kettles",
        "attributes": {"capacity": "1.7 l", "colour": "black", "power": "2200 W"},
        "price": 39.9,
        "currency": "EUR",
    },
    "channel": "product_page",
    "language": "en",
}
_STREAM = (
    "the answer; with stream, the events headline, description and bullets (PartOut, bullets one by one), checks "
    "(CheckedOut) for each variant, then done (EndOut); or error, and then nothing more"
)


def add_copy(paths: dict[str, Any], components: dict[str, Any], meaning: dict[int, str]) -> None:
    """Add the endpoints.

    Args:
        paths: of the document; grows.
        components: schemas of the document; grows.
        meaning: of each status.
    """
    structs = (CopyIn, AskedIn, CopyOut, PartOut, CheckedOut, EndOut, ItemsIn, JobOut, JobList)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    components.update(schemas)
    paths["/v1/product-copy"] = {
        "post": {
            "summary": "Write copy for a product, every claim of which stands in its record",
            "operationId": "writeProductCopy",
            "requestBody": _body({"application/json": {"schema": _ref("CopyIn"), "example": EXAMPLE}}),
            "responses": {
                "200": {
                    "description": _STREAM,
                    "headers": {
                        "cache-status": {"description": "RFC 9211", "schema": {"type": "string"}},
                        "age": {"description": "seconds, of cached copy", "schema": {"type": "integer"}},
                    },
                    "content": {
                        "application/json": {"schema": _ref("CopyOut")},
                        "text/event-stream": {
                            "schema": {"anyOf": [_ref("PartOut"), _ref("CheckedOut"), _ref("EndOut")]}
                        },
                    },
                },
                **_errors(meaning),
            },
        }
    }
    lines = {"type": "string", "description": "JSON lines: requests, or bare records, each with an id"}
    job_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths[PATH] = {
        "post": {
            "summary": "Write copy for many products, behind all live traffic",
            "operationId": "createCopyJob",
            "requestBody": _body(
                {
                    "application/json": {
                        "schema": _ref("ItemsIn"),
                        "example": {"items": [{"id": "sku-1", **EXAMPLE}], "channel": "ad"},
                    },
                    "application/x-ndjson": {"schema": lines},
                }
            ),
            "responses": {"202": _job("the job"), **_errors(meaning)},
        },
        "get": {
            "summary": "All jobs of the caller",
            "operationId": "listCopyJobs",
            "responses": {"200": {"description": "newest first", "content": _json("JobList")}},
        },
    }
    paths[PATH + "/{id}"] = {
        "parameters": [job_id],
        "get": {
            "summary": "How far a job is, and when it will be done",
            "operationId": "getCopyJob",
            "responses": {"200": _job("the job"), **_errors(meaning, 404)},
        },
        "delete": {
            "summary": "Stop a job; its results so far stay",
            "operationId": "cancelCopyJob",
            "responses": {"200": _job("the job"), **_errors(meaning, 404)},
        },
    }
    for name, about in (("results", "Answers by line"), ("rejects", "Lines without an answer, with reasons")):
        paths[f"{PATH}/{{id}}/{name}"] = {
            "parameters": [job_id],
            "get": {
                "summary": about,
                "operationId": f"getCopyJob{name.capitalize()}",
                "responses": {
                    "200": {
                        "description": "JSON lines",
                        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
                    },
                    **_errors(meaning, 404),
                },
            },
        }


def _errors(meaning: dict[int, str], *only: int) -> dict[str, Any]:
    statuses = only or error_examples("/v1/product-copy").keys()
    return {
        str(status): {"description": meaning[status], "content": _json("ErrorBody")} for status in statuses
    }


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": content}


def _job(about: str) -> dict[str, Any]:
    return {"description": about, "content": _json("JobOut")}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _ref(name)}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
