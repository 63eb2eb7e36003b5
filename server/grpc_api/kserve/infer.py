"""``ModelInfer``: from the bytes of a message to the bytes of an answer, by callbacks as the products' calls.

The message names its model, so that it is parsed before the permit is taken; its tensors are looked at after it. A caller
that leaves cancels the work.
"""

from __future__ import annotations

import logging

from server.errors import ServeError, shown_as
from server.grpc_api.call import Call, Method
from server.grpc_api.kserve.messages import asked_of, parse_infer, response_of
from server.kserve.answering import Answering
from server.kserve.model import ENDPOINT, Models, outputs_asked
from server.logs import AccessLog
from server.service import Ticket

log = logging.getLogger("vitrine.kserve")

SERVICE = "inference.GRPCInferenceService"


class InferMethod:
    """All models; see ``call.Method``."""

    takes_stream = False
    keyed = True
    holds_drain = True

    def __init__(self, models: Models, access: AccessLog) -> None:
        self._models = models
        self._access = access

    def start(self, call: Call) -> Answering | None:
        """Find the model, permit, decode, ask; the answer is sent by a callback."""
        ticket: Ticket | None = None
        try:
            message = parse_infer(call.body)
            model = self._models.find(message.model_name, message.model_version)
            admitted = model.admit("grpc")
            if isinstance(admitted, ServeError):
                raise admitted
            ticket = admitted
            asked = asked_of(message, call.timeout_s)
            meta = model.meta()
            outputs_asked(meta, asked)
            asking = Answering(
                call,
                ticket,
                self._access,
                send=lambda answer: call.reply(response_of(meta, asked, answer).SerializeToString()),
                refuse=call.reply_error,
            )
            asking.work = model.infer(ticket, asked, asking.done)
            return asking
        except Exception as error:
            refused = shown_as(error)
            refused.__traceback__ = None  # or it and this frame keep each other until a garbage collection
            elapsed_s = 0.0 if ticket is None else ticket.end(refused.code.value)
            if refused is not error:
                log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            self._access.ended(ENDPOINT, refused.code.value, call, elapsed_s)
            call.reply_error(refused)
            return None


def infer_methods(models: Models, access: AccessLog) -> dict[bytes, Method]:
    """The hot methods by path."""
    return {f"/{SERVICE}/ModelInfer".encode(): InferMethod(models, access)}
