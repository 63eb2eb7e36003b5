"""The embeddings endpoint's part of the OpenAPI document, from the structs that decode and encode it."""

from __future__ import annotations

from typing import Any

import msgspec

from server.errors import InvalidRequest, Overloaded
from server.http_api.error_examples import REQUEST_ID, error_examples
from server.http_api.openai.embedding_shapes import EmbeddingsIn, EmbeddingsOut
from server.http_api.openai.errors import OpenAIErrorBody, error_out

PATH = "/v1/embeddings"
_WRONG = InvalidRequest(
    "input[1] has 300 tokens, special ones included; the encoder reads 256; send less, or set truncate to end",
    field="input[1]",
    limit="256 tokens",
)


def add_embeddings(
    model: str, paths: dict[str, Any], components: dict[str, Any], meaning: dict[int, str]
) -> None:
    """Add the endpoint.

    Args:
        model: name of the encoder, so that the example can be sent as it is.
        paths: of the document; grows.
        components: schemas of the document; grows.
        meaning: of each status.
    """
    structs = (EmbeddingsIn, EmbeddingsOut, OpenAIErrorBody)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    components.update(schemas)
    errors = {**error_examples(PATH), 422: _WRONG, 429: Overloaded(model, 4096, 2048, 1.2)}
    example = {"model": model, "input": ["Where is my order?", "How do I return shoes?"]}
    paths[PATH] = {
        "post": {
            "summary": "Vectors of texts, near each other where the texts mean the same",
            "operationId": "createEmbedding",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _ref("EmbeddingsIn"), "example": example}},
            },
            "responses": {
                "200": {
                    "description": "a vector of length 1 for each input, in their order",
                    "headers": {
                        "server-timing": {
                            "description": "milliseconds per stage",
                            "schema": {"type": "string"},
                        }
                    },
                    "content": {"application/json": {"schema": _ref("EmbeddingsOut")}},
                },
                **{
                    str(status): {
                        "description": meaning[status],
                        "content": {
                            "application/json": {
                                "schema": _ref("OpenAIErrorBody"),
                                "example": msgspec.to_builtins(error_out(error, REQUEST_ID)),
                            }
                        },
                    }
                    for status, error in errors.items()
                },
            },
        }
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
