"""A whole server with a fake text model, as a process: prints its port, and does to a text what its prompt says.

``python -m tests.server.fake_text_process``; "hang" writes three tokens and no more, "mute" none, "die" ends the process
after three, "fail" fails after three, "full" is refused, and everything else is echoed.
"""

from __future__ import annotations

import asyncio
import os
import signal

import uvloop

from server.app import Application
from server.errors import EngineFault, Overloaded
from server.settings import Settings
from server.text_domain import GenerateRequest
from server.text_generator import Sink
from tests.server.fake_recommender import FakeRecommender
from tests.server.fake_text import FakeGeneration, FakeText, echo


class Obedient(FakeText):
    """Looks at each prompt for what to do."""

    def submit(self, request: GenerateRequest, sink: Sink) -> FakeGeneration:
        said = echo(request)
        self.hold_after = 3 if "hang" in said else 0 if "mute" in said else None
        self.fault, self.fault_after = (EngineFault("told to fail"), 3) if "fail" in said else (None, 0)
        if "full" in said:
            raise Overloaded("writer", 9, 8, 7.0)
        if "die" in said:
            asyncio.get_running_loop().call_later(0.2, os._exit, 3)
            self.hold_after = 3
        generation = super().submit(request, sink)
        generation.own(self.hold_after, self.fault, self.fault_after)
        return generation


async def main() -> None:
    ports = {
        "http_port": 0,
        "grpc_port": 0,
        "metrics_port": 0,
        "grpc": False,
        "encoder": False,
        "drain_s": 1.0,
    }
    text = Obedient()
    app = Application(Settings.from_env({}, **ports), lambda *_: FakeRecommender(), lambda *_: text)
    await app.start()
    await app.warm()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print(app.http_port, flush=True)
    await told.wait()
    await app.stop()


if __name__ == "__main__":
    uvloop.run(main())
