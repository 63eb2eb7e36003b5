"""The text endpoints' part of the OpenAPI document, from the structs that decode and encode them."""

from __future__ import annotations

from typing import Any

import msgspec

from server.errors import InvalidRequest
from server.http_api.error_examples import REQUEST_ID, error_examples
from server.http_api.openai.answers import ChatChunkOut, ChatOut, CompletionOut
from server.http_api.openai.errors import OpenAIErrorBody, error_out
from server.http_api.openai.shapes import ChatIn, CompletionIn

_WRONG = InvalidRequest("temperature is 3; give 0 to 2", field="temperature", limit="0 .. 2")


def add_text(paths: dict[str, Any], components: dict[str, Any], model: str, meaning: dict[int, str]) -> None:
    """Add the text endpoints.

    Args:
        paths: of the document; grows.
        components: schemas of the document; grows.
        model: name of the text model, so that the examples can be sent as they are.
        meaning: of each status.
    """
    structs = (ChatIn, CompletionIn, ChatOut, ChatChunkOut, CompletionOut, OpenAIErrorBody)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    components.update(schemas)
    conversation = [
        {"role": "system", "content": "You write product copy."},
        {"role": "user", "content": "A mug of white porcelain, 350 ml."},
    ]
    paths["/v1/chat/completions"] = {
        "post": _operation(
            "/v1/chat/completions",
            "Go on with a conversation, whole or as a stream of events",
            "createChatCompletion",
            "ChatIn",
            {"model": model, "messages": conversation, "max_completion_tokens": 64, "temperature": 0},
            "ChatOut",
            "ChatChunkOut",
            meaning,
        )
    }
    paths["/v1/completions"] = {
        "post": _operation(
            "/v1/completions",
            "Go on with texts, whole or as a stream of events",
            "createCompletion",
            "CompletionIn",
            {"model": model, "prompt": "This mug", "max_tokens": 32, "temperature": 0},
            "CompletionOut",
            "CompletionOut",
            meaning,
        )
    }


def _operation(
    path: str,
    summary: str,
    name: str,
    takes: str,
    example: Any,
    gives: str,
    event: str,
    meaning: dict[int, str],
) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {
            "description": "the answer; with stream, events of this schema, then [DONE]. A stream that fails after its "
            "first token ends with an event named error and without [DONE]",
            "content": {
                "application/json": {"schema": _ref(gives)},
                "text/event-stream": {"schema": _ref(event)},
            },
        }
    }
    for status, error in {**error_examples(path), 422: _WRONG}.items():
        answers[str(status)] = {
            "description": meaning[status],
            "content": {
                "application/json": {
                    "schema": _ref("OpenAIErrorBody"),
                    "example": msgspec.to_builtins(error_out(error, REQUEST_ID)),
                }
            },
        }
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(takes), "example": example}},
        },
        "responses": answers,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
