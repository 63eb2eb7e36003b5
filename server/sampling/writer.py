"""Tokens to chunks for one text: whole characters only, nothing of a stop string, every token told once."""

from __future__ import annotations

from server.sampling.stop_strings import StopStrings
from server.text_domain import Chunk, GenerateRequest, TokenLogprob
from server.text_generator import StreamDecoder, TextCodec

_NO_STOPS = StopStrings(())


class StopWriter:
    """A ``TextWriter``. The stop string that is complete first ends the text; of two, the longer one.

    Args:
        decoder: of this text.
        stops: its stop strings.
    """

    def __init__(self, decoder: StreamDecoder, stops: StopStrings) -> None:
        self._decoder = decoder
        self._stops = stops
        self._node = 0
        self._held = ""
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._stopped: str | None = None

    @property
    def stopped(self) -> str | None:
        """The stop string that was met."""
        return self._stopped

    def push(self, token_id: int, logprob: TokenLogprob | None) -> Chunk | None:
        """What can be shown now; None when nothing yet.

        Tokens whose text is held back are told with it. After a stop string nothing more is shown.
        """
        if self._stopped is not None:
            return None
        self._tokens.append(token_id)
        if logprob is not None:
            self._logprobs.append(logprob)
        text = self._read(self._decoder.push(token_id))
        return self._chunk(text) if text or self._stopped is not None else None

    def finish(self) -> Chunk | None:
        """What was held back, at the end of a text that no stop string ended."""
        if self._stopped is not None:
            return None
        text = self._read(self._decoder.flush())
        if self._stopped is None:
            text, self._held = text + self._held, ""
        return self._chunk(text) if text or self._tokens else None

    def _read(self, piece: str) -> str:
        if self._stops is _NO_STOPS:
            return piece
        node = self._node
        whole = self._held + piece
        for at, char in enumerate(piece, start=len(self._held) + 1):
            node = self._stops.step(node, char)
            met = self._stops.met(node)
            if met is not None:
                self._stopped, self._held = met, ""
                return whole[: at - len(met)]
        self._node = node
        shown = len(whole) - self._stops.held(node)
        self._held = whole[shown:]
        return whole[:shown]

    def _chunk(self, text: str) -> Chunk:
        chunk = Chunk(text, tuple(self._tokens), tuple(self._logprobs))
        self._tokens.clear()
        self._logprobs.clear()
        return chunk


def open_writer(codec: TextCodec, request: GenerateRequest) -> StopWriter:
    """A writer for one text."""
    stops = StopStrings(request.stop) if any(request.stop) else _NO_STOPS
    return StopWriter(codec.stream(), stops)
