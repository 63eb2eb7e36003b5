"""The sentence encoder that serves now, and how the next version takes its place without a dropped text.

The first version is loaded on a worker thread after the start, so that it delays nobody who does not ask for it; whoever asks
before that waits for it. A new version is found by polling ``CURRENT``, loaded, replayed and timed in a worker thread while
the old one serves, then swapped in: new requests begin with the new one, those under way end with the version whose tokens
they have, and the old engine's memory is let go when the last of them has ended.

Short texts are tokenized where they come in; long ones, and many, on a worker thread.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from server.artifacts.repository import current_version, open_version
from server.batching.token_batch import TokenModel
from server.batching.token_batcher import TokenBatcher, TokenLimits
from server.encoder_domain import Encoded, EncodeRequest, EncoderInfo
from server.encoder_telemetry import BULK, LIVE, EncoderRecorder, NullEncoderRecorder
from server.errors import DeadlineExceeded, InvalidRequest, NotReady
from server.pipelines.encoder_loading import EncoderLoadOptions, EncoderModel, load_encoder
from server.pipelines.trust import trusted_keys
from server.pipelines.version_watch import VersionWatch
from server.settings import Settings
from server.telemetry_interface import NullTelemetry

log = logging.getLogger("vitrine.encoder")

LAST_BATCH_S = 1.0  # how long closing waits for a batch that is under way
# Characters that are tokenized on the event loop: about a millisecond of it.
ON_LOOP_CHARS = 2048

Load = Callable[[str], EncoderModel]


def open_encoder(
    folder: Path, name: str = "", *, threads: int = 1, limits: TokenLimits | None = None
) -> LiveEncoder:
    """An encoder in this process without a server: for a command that indexes a folder, and for tests.

    Use it as ``async with open_encoder(...) as encoder: await encoder.encode(...)``.

    Args:
        folder: of one version (it holds ``manifest.json``), or the repository where ``name`` is given.
        name: of the model in that repository; its current version serves, and no other is looked for.
        threads: of the engine.
        limits: what may wait.

    Raises:
        ArtifactError: nothing of that name is published.
    """
    if name:
        folder = folder / name / current_version(folder, name)
    options = EncoderLoadOptions(threads=threads)
    return LiveEncoder(
        folder.parent.parent,
        name or folder.parent.name,
        lambda version: load_encoder(open_version(folder), options),
        version=folder.name,
        limits=limits,
        reload_interval_s=0.0,
    )


def open_live_encoder(settings: Settings, name: str, telemetry: NullTelemetry) -> LiveEncoder:
    """The encoder of a server, ready to be started; its version is loaded after that.

    Raises:
        ArtifactError: nothing of that name is published.
    """
    options = EncoderLoadOptions(threads=settings.encoder_threads, batch_tokens=settings.encoder_batch_tokens)
    repository, trusted = settings.repository, trusted_keys(settings)
    return LiveEncoder(
        repository,
        name,
        lambda version: load_encoder(open_version(repository / name / version, trusted=trusted), options),
        version=current_version(repository, name),
        limits=TokenLimits(
            max_wait_s=settings.encoder_max_wait_ms * 1e-3, longest_s=settings.encoder_max_deadline_ms * 1e-3
        ),
        recorder=telemetry.encoder(name),
        reload_interval_s=settings.reload_interval_s,
    )


class LiveEncoder:
    """A ``SentenceEncoder`` with a life of its own; for the event-loop thread.

    Args:
        repository: folder of published models.
        name: of the model.
        load: opens a version; called on a worker thread.
        version: that serves first; empty: the current one.
        limits: of the batcher.
        recorder: what its batches are told to.
        reload_interval_s: how often ``CURRENT`` is read; 0: never.
        clock: monotonic.

    Attributes:
        name: of the model.
        reload_failures: new versions not taken up: "unreadable" or "refused"; each failing version counts once.
    """

    def __init__(
        self,
        repository: Path,
        name: str,
        load: Load,
        *,
        version: str = "",
        limits: TokenLimits | None = None,
        recorder: EncoderRecorder | None = None,
        reload_interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._repository, self._load, self._version = repository, load, version
        self._clock = clock
        self._recorder: EncoderRecorder = recorder or NullEncoderRecorder()
        self._batcher = TokenBatcher(name, limits, clock=clock, recorder=recorder)
        self._model: EncoderModel | None = None
        self._loaded: list[EncoderModel] = []  # oldest first; the last one serves
        self._loading: asyncio.Task[None] | None = None
        self._fault: str = ""
        self._closed = False
        self._versions: VersionWatch[EncoderModel] = VersionWatch(
            repository,
            name,
            serving=lambda: self._model.info.version if self._model is not None else "",
            load=load,
            take=self._take,
            log=log,
            interval_s=reload_interval_s,
        )
        self.reload_failures = self._versions.failures

    async def __aenter__(self) -> Self:
        await self.load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(0.0 if kind is not None else 10.0)

    def start(self) -> None:
        """Begin to load, inside the running loop; a second call changes nothing."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._first(), name=f"load {self.name}")
            # What went wrong is in the log and in ``failed``; asyncio need not say that nobody waited for it.
            self._loading.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def load(self) -> None:
        """Return once it serves.

        Raises:
            ArtifactError: nothing to serve, or it cannot be loaded, or does not give what it gave when it was gated.
        """
        self.start()
        assert self._loading is not None
        await asyncio.shield(self._loading)

    async def close(self, drain_s: float) -> None:
        """Stop watching, finish what is under way within ``drain_s``, fail the rest, let go of the engines."""
        self._closed = True
        await self._versions.stop()
        if self._loading is not None and not self._loading.done():
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._batcher.close(drain_s)
        for model in self._loaded:
            try:
                async with asyncio.timeout(LAST_BATCH_S):
                    await self._batcher.drained(model.tokens)
            except TimeoutError:  # to take its memory away within a batch would take the process with it
                log.error("the engine hangs in a batch; it ends with the process", extra={"model": self.name})
            else:
                model.tokens.engine.close()
        self._loaded.clear()

    def info(self) -> EncoderInfo:
        """The version that new requests begin with; before it is loaded, its name and nothing of its vectors."""
        if self._model is not None:
            return self._model.info
        return EncoderInfo(
            name=self.name, version=self._version, engine="", precision="", dim=0, max_tokens=0
        )

    def ready(self) -> tuple[bool, str]:
        """Whether texts can be encoded now, and a sentence if not."""
        if self._model is None:
            return False, self._fault or f"{self.name} is being loaded"
        return self._batcher.ready()

    @property
    def failed(self) -> str:
        """Why it cannot be loaded; empty while it may still be."""
        return self._fault

    @property
    def loaded(self) -> bool:
        """Whether it has been loaded."""
        return self._model is not None

    @property
    def last_progress_s(self) -> float:
        """When the engine last finished a batch, or now when idle."""
        return self._batcher.last_progress_s

    @property
    def queued(self) -> int:
        """Texts that wait."""
        return self._batcher.queued

    async def encode(self, request: EncodeRequest) -> Encoded:
        """Encode; see ``SentenceEncoder.encode``."""
        model = self._model
        if model is None:
            model = await self._wait_for_model(request.deadline_s)
        if not request.inputs:
            raise InvalidRequest("input has no entries; send at least one", field="input", limit=">= 1 entry")
        if request.whole:
            tokens = model.codec.whole(request.inputs)
        elif sum(map(len, request.inputs)) <= ON_LOOP_CHARS:
            tokens = model.codec.encode(request.inputs, request.kind, request.truncate)
        else:
            tokens = await asyncio.to_thread(
                model.codec.encode, request.inputs, request.kind, request.truncate
            )
        truncated = tuple(one.truncated for one in tokens)
        self._recorder.inputs_read(
            BULK if request.bulk else LIVE, texts=len(tokens), truncated=truncated.count(True)
        )
        answer = await self._batcher.submit(
            [one.ids for one in tokens], model.tokens, deadline_s=request.deadline_s, bulk=request.bulk
        )
        return Encoded(
            vectors_ND=answer.vectors_ND,
            logits_NC=answer.logits_NC,
            tokens_N=tuple(len(one.ids) for one in tokens),
            truncated_N=truncated,
            known_N=tuple(one.known for one in tokens),
            queue_s=answer.queue_s,
            engine_s=answer.engine_s,
        )

    async def check_for_new_version(self) -> bool:
        """Take up the current version if it is another one; True when it was."""
        return await self._versions.look()

    async def _wait_for_model(self, deadline_s: float | None) -> EncoderModel:
        if self._closed:
            raise NotReady(f"{self.name} is closing")
        if not self._fault:
            self.start()
            assert self._loading is not None
            wait_s = None if deadline_s is None else max(0.0, deadline_s - self._clock())
            done, _ = await asyncio.wait((self._loading,), timeout=wait_s)
            if not done:
                raise DeadlineExceeded(f"{self.name} is still being loaded", stage="queue")
        return self._current()

    def _current(self) -> EncoderModel:
        if self._model is None:
            raise NotReady(self._fault or f"{self.name} is being loaded")
        return self._model

    async def _first(self) -> None:
        try:
            version = self._version or await asyncio.to_thread(current_version, self._repository, self.name)
            model = await asyncio.to_thread(self._load, version)
        except Exception as error:
            self._fault = f"{self.name} cannot be loaded: {error}"
            log.error("the encoder cannot be loaded", extra={"model": self.name, "reason": str(error)})
            self._versions.start()  # a rollback mends it
            raise
        if self._closed:
            model.tokens.engine.close()
            return
        self._serve(model)
        self._versions.start()

    def _serve(self, model: EncoderModel) -> None:
        if not self._loaded:
            self._batcher.start()
        self._loaded.append(model)
        self._model, self._fault = model, ""

    async def _take(self, model: EncoderModel, version: str) -> None:
        old = self._model
        self._serve(model)
        if old is None:
            return
        log.info(
            "new version encodes",
            extra={"model": self.name, "version": version, "previous": old.info.version},
        )
        tokens: TokenModel = old.tokens
        await self._batcher.drained(tokens)
        self._loaded.remove(old)
        await asyncio.to_thread(tokens.engine.close)
