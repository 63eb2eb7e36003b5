"""A teacher behind an OpenAI-compatible server: asked for text, with bounded patience.

What may pass (no connection, 429, 5xx) is tried again a few times; what will not, ends the step with what the server said. The
key comes from the environment and is in no file and no message.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from build_engines.errors import BuildError

TRIES = 5
FIRST_WAIT_S, MOST_WAIT_S = 0.5, 30.0
AT_ONCE = 8
_PASSES = (408, 409, 429, 500, 502, 503, 504)


class Endpoint:
    """See the module docstring.

    Args:
        address: up to and with "/v1".
        model: its name there.
        key_variable: environment variable with the key; empty: none is sent.
        chat: ask as a conversation of one turn.
        timeout_s: of a request (> 0).
        sleep: waits so many seconds.

    Raises:
        BuildError: the address is none, httpx is not installed, or the key is missing.
    """

    def __init__(
        self,
        *,
        address: str,
        model: str,
        key_variable: str = "",
        chat: bool = False,
        timeout_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise BuildError(f"distil: endpoint is {address!r}; write it as http://HOST:PORT/v1")
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise BuildError("distil: endpoint needs httpx; pip install 'vitrine[upstream]'") from error
        headers = {}
        if key_variable:
            if not os.environ.get(key_variable):
                raise BuildError(f"distil: endpoint_key_variable is {key_variable}, which is not set; set it")
            headers["Authorization"] = f"Bearer {os.environ[key_variable]}"
        self._httpx: Any = httpx
        self._client = httpx.Client(timeout=timeout_s, headers=headers)
        self._address, self._model, self._chat, self._sleep = address.rstrip("/"), model, chat, sleep
        self.identity = f"{model} at {self._address}{' (chat)' if chat else ''}"

    def answers(self, prompts: Sequence[str], most_tokens: int) -> list[str | None]:
        """Greedy answers in the order of the prompts; None where one was cut off at ``most_tokens``.

        Raises:
            BuildError: the server cannot be reached, refuses, or answers in another form.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda prompt: self._answer(prompt, most_tokens), prompts))

    def _answer(self, prompt: str, most_tokens: int) -> str | None:
        asked: dict[str, Any] = {"model": self._model, "max_tokens": most_tokens, "temperature": 0, "seed": 0}
        if self._chat:
            where, asked["messages"] = "chat/completions", [{"role": "user", "content": prompt}]
        else:
            where, asked["prompt"] = "completions", prompt
        told = self._asked(f"{self._address}/{where}", asked)
        try:
            choice = told["choices"][0]
            text = choice["message"]["content"] if self._chat else choice["text"]
            if not isinstance(text, str):
                raise TypeError(f"text is {text!r}")
            return None if choice.get("finish_reason") == "length" else text
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise BuildError(
                f"distil: {self.identity} answers in another form ({error!r}): {str(told)[:200]}"
            ) from error

    def _asked(self, url: str, asked: dict[str, Any]) -> Any:
        last = ""
        for attempt in range(TRIES):
            wait_s = FIRST_WAIT_S * 2**attempt
            try:
                reply = self._client.post(url, json=asked)
            except self._httpx.TransportError as error:
                last = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code == 200:
                    try:
                        return reply.json()
                    except ValueError as error:
                        raise BuildError(
                            f"distil: {self.identity} answers with no JSON: {reply.text[:200]!r}"
                        ) from error
                last = f"status {reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in _PASSES:
                    raise BuildError(f"distil: {self.identity} refuses: {last}")
                hinted = reply.headers.get("retry-after", "")
                wait_s = float(hinted) if hinted.isdecimal() else wait_s
            if attempt + 1 < TRIES:
                self._sleep(min(wait_s, MOST_WAIT_S))
        raise BuildError(
            f"distil: {self.identity} did not answer in {TRIES} tries ({last}); start it and run this again, what was answered "
            "is kept"
        )
