"""One true error for each status of the documents, made by the classes that make the served ones.

``tests/server/test_http_answers.py`` asks the server for those that can be asked for.
"""

from __future__ import annotations

from server.errors import (
    DeadlineExceeded,
    EngineFault,
    HeadTooLarge,
    InvalidRequest,
    MalformedRequest,
    NotFound,
    NotReady,
    Overloaded,
    RequestTooLarge,
    ServeError,
    Unauthenticated,
)

REQUEST_ID = "3f9c2a71d0be-1c"


def error_examples(path: str, max_k: int = 100) -> dict[int, ServeError]:
    """An error for each status that a POST to ``path`` may get.

    Args:
        path: of the endpoint.
        max_k: most items that the served model can return.
    """
    return {
        400: MalformedRequest(
            "the body is not valid JSON: Input data was truncated; send one JSON object in UTF-8 "
            "(NaN and Infinity are not JSON)",
            field="body",
        ),
        401: Unauthenticated("no API key; send the header authorization: Bearer KEY, or x-api-key: KEY"),
        404: NotFound(f"there is no {path}/now here; there are {path}, /v1/models", field="path"),
        405: InvalidRequest(f"GET is not for {path}; use POST", field="method", limit="POST"),
        408: MalformedRequest(
            "the request did not arrive whole within 10 s; send it in one go", field="request", limit="10 s"
        ),
        413: RequestTooLarge(2_000_000, 1_048_576),
        422: InvalidRequest(f"k is 0; ask for 1 to {max_k} items", field="k", limit=f"1 .. {max_k}"),
        429: Overloaded("shop", 128, 128, 0.05),
        431: HeadTooLarge(32_768),
        500: EngineFault("the server failed on this request; its log says more under the request id"),
        503: NotReady("too many connections; keep fewer open, or try another replica"),
        504: DeadlineExceeded(
            "the engine did not answer in time; ask with a longer deadline_ms", stage="engine"
        ),
    }
