"""The knowledge base's part of the OpenAPI document, from the structs that decode and encode it."""

from __future__ import annotations

from typing import Any

import msgspec

from server.http_api.error_examples import REQUEST_ID, error_examples
from server.http_api.knowledge.endpoint import PATH, ROOT
from server.http_api.knowledge.shapes import (
    CONTENT_TYPES,
    DocumentIn,
    DocumentList,
    DocumentOut,
    KnowledgeOut,
    WrittenOut,
)
from server.http_api.status import error_detail

EXAMPLE = {
    "text": "# Returns\n\nYou may return any item within 30 days of the day you received it.\n",
    "format": "markdown",
    "url": "/help/returns",
}
_UNUSED = {404, 504}


def add_knowledge(paths: dict[str, Any], components: dict[str, Any], meaning: dict[int, str]) -> None:
    """Add the endpoints.

    Args:
        paths: of the document; grows.
        components: schemas of the document; grows.
        meaning: of each status.
    """
    structs = (DocumentIn, WrittenOut, DocumentOut, DocumentList, KnowledgeOut)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    components.update(schemas)
    errors = _errors(meaning)
    gone = {"404": {"description": "there is no such document"}}
    differs = {"412": {"description": "another version is there than If-Match or If-None-Match says"}}
    document_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    if_match = {"name": "if-match", "in": "header", "schema": {"type": "string"}}
    paths[ROOT] = {"get": _call("How the knowledge base stands", "getKnowledge", "KnowledgeOut", errors)}
    paths[PATH] = {
        "get": {
            **_call("List documents in the order of their ids", "listDocuments", "DocumentList", errors),
            "parameters": [_query("after", "string"), _query("limit", "integer")],
        }
    }
    text = {
        "schema": {
            "type": "string",
            "description": "the text itself; ?title=, ?language=, ?url= say the rest",
        }
    }
    json_body = {"schema": {"$ref": "#/components/schemas/DocumentIn"}, "example": EXAMPLE}
    content = {kind: json_body if kind == CONTENT_TYPES[0] else text for kind in CONTENT_TYPES}
    paths[PATH + "/{id}"] = {
        "parameters": [document_id],
        "put": {
            **_call(
                "Put a document in, whole and durable",
                "putDocument",
                "WrittenOut",
                {**errors, **differs},
                201,
            ),
            "parameters": [if_match, *(_query(name, "string") for name in ("title", "language", "url"))],
            "requestBody": {"required": True, "content": content},
        },
        "get": {
            **_call("A document as it was put in", "getDocument", "DocumentOut", {**errors, **gone}),
            "parameters": [_query("passages", "boolean")],
        },
        "delete": {
            **_call("Take a document away", "deleteDocument", "WrittenOut", {**errors, **gone, **differs}),
            "parameters": [if_match],
        },
    }


def _call(summary: str, name: str, answer: str, errors: dict[str, Any], *more: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}}
    fine = {str(status): {"description": "the answer", "content": content} for status in (200, *more)}
    return {"summary": summary, "operationId": name, "responses": {**fine, **errors}}


def _query(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind}}


def _errors(meaning: dict[int, str]) -> dict[str, Any]:
    return {
        str(status): {
            "description": meaning[status],
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/ErrorBody"},
                    "example": {"error": msgspec.to_builtins(error_detail(error, REQUEST_ID))},
                }
            },
        }
        for status, error in error_examples(PATH).items()
        if status not in _UNUSED
    }
