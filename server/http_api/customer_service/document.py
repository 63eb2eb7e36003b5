"""Customer service's part of the OpenAPI document, from the structs that decode and encode it."""

from __future__ import annotations

from typing import Any

import msgspec

from server.http_api.customer_service.answers import (
    AnswerPartOut,
    HeardOut,
    SourcesOut,
    SupportEndOut,
    SupportOut,
)
from server.http_api.customer_service.endpoint import PATH
from server.http_api.customer_service.shapes import SupportIn
from server.http_api.error_examples import error_examples

EXAMPLE = {
    "messages": [{"role": "user", "content": "Where is my order?"}],
    "order": {
        "order_id": "A-1001",
        "status": "shipped",
        "shipped_on": "2026-03-02",
        "expected_on": "2026-03-05",
        "carrier": "DHL",
        "tracking_number": "JD0146000012",
    },
}
_STREAM = (
    "the answer; with stream, the events intent (HeardOut), sources (SourcesOut), answer (AnswerPartOut, one or more) and done "
    "(SupportEndOut); or error, and then nothing more"
)


def add_support(paths: dict[str, Any], components: dict[str, Any], meaning: dict[int, str]) -> None:
    """Add the endpoint.

    Args:
        paths: of the document; grows.
        components: schemas of the document; grows.
        meaning: of each status.
    """
    structs = (SupportIn, SupportOut, HeardOut, SourcesOut, AnswerPartOut, SupportEndOut)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    components.update(schemas)
    events = [_ref(name) for name in ("HeardOut", "SourcesOut", "AnswerPartOut", "SupportEndOut")]
    paths[PATH] = {
        "post": {
            "summary": "Answer a shopper from the shop's own pages or from the order, or hand over to a person",
            "operationId": "answerShopper",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _ref("SupportIn"), "example": EXAMPLE}},
            },
            "responses": {
                "200": {
                    "description": _STREAM,
                    "headers": {
                        "server-timing": {
                            "description": "milliseconds per stage",
                            "schema": {"type": "string"},
                        }
                    },
                    "content": {
                        "application/json": {"schema": _ref("SupportOut")},
                        "text/event-stream": {"schema": {"anyOf": events}},
                    },
                },
                **{
                    str(status): {
                        "description": meaning[status],
                        "content": {"application/json": {"schema": _ref("ErrorBody")}},
                    }
                    for status in error_examples(PATH)
                },
            },
        }
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
