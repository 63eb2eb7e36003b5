"""Messages that greet, thank or say goodbye and ask for nothing: they get a fixed sentence that claims nothing, and nobody is called.

A message is one only if nothing else stands in it: "thanks, and my refund?" is a question, "thanks for nothing" is none of ours.
"""

from __future__ import annotations

import re
from enum import StrEnum

from server.copy_domain import Language
from server.pipelines.product_copy.folding import fold

MOST_CHARS = 120  # of a message that says no more than that


class Courtesy(StrEnum):
    """What a message is, where it is no question."""

    GREETING = "greeting"
    THANKS = "thanks"
    GOODBYE = "goodbye"


COURTESIES: dict[Language, dict[Courtesy, str]] = {
    Language.EN: {
        Courtesy.GREETING: "Hello! What can I help you with?",
        Courtesy.THANKS: "You are welcome! Is there anything else I can help you with?",
        Courtesy.GOODBYE: "Goodbye! Write again whenever you have a question.",
    },
    Language.ZH: {
        Courtesy.GREETING: "您好！请问有什么可以帮您？",
        Courtesy.THANKS: "不客气！请问还有什么可以帮您？",
        Courtesy.GOODBYE: "再见！有问题随时联系我们。",
    },
}
_WORDS = {
    Courtesy.GREETING: (
        r"(?:hi|hello|hey|hiya|howdy|greetings)(?: there| all| again| everyone| team)?|good (?:morning|afternoon|evening|day)",
        r"你好|您好|你们好|大家好|嗨|哈喽|哈罗|早上好|上午好|中午好|下午好|晚上好|早安|早|(?:请问)?(?:你|您|有人)?在(?:吗|么|不在)|有人吗|(?:客服)?你好",
    ),
    Courtesy.THANKS: (
        r"(?:many |no, |no )?(?:thanks|thank you|thankyou|thx|ty|cheers|much appreciated)"
        r"(?: (?:so much|very much|a lot|a million|again|a bunch|kindly|everyone|anyway))*"
        r"(?: for (?:your|the|all the|all your) (?:quick |kind |great |fast )*(?:help|answer|reply|response|support|information|info|time|assistance))?"
        r"(?: (?:so much|very much|a lot|again))?",
        r"(?:非常|十分|太|真是|真的|好的?)?(?:谢谢|多谢|感谢|谢啦|谢了|谢谢啦|感恩|辛苦)(?:你们?|您|大家|客服)?(?:了|啦|啊|哦|的|您)?(?:(?:耐心|热心|及时)?的?(?:帮助|解答|回复|回答))?(?:了|啦)?",
    ),
    Courtesy.GOODBYE: (
        r"(?:good ?bye|bye(?: bye)?|see you(?: later| soon)?|have a (?:nice|good|great|lovely) (?:day|evening|weekend|one)|good night)",
        r"再见|拜拜|拜|回头见|晚安|祝(?:你|您)(?:生活愉快|愉快|一切顺利)",
    ),
}
# What may stand beside one and says nothing of its own. "OK" alone is none: it may be the answer to a question.
_BESIDE = r"ok|okay|great|perfect|super|wonderful|all right|alright|got it|i see|that helps|that helped|very helpful|好的?|行|明白了?|知道了|了解了?|懂了|收到|嗯|哦"
_PAUSE = re.compile(r"[^\w\u3400-\u9fff']+")
_PARTS = {kind: "|".join(words) for kind, words in _WORDS.items()}
_KINDS = {kind: re.compile(rf"(?:^|\s|(?<=[\u3400-\u9fff]))(?:{parts})") for kind, parts in _PARTS.items()}
# Atomic, one after another: nothing is tried in two ways, so that time does not grow with what might have been.
_ALL = re.compile(rf"(?:(?>(?:{'|'.join(_PARTS.values())}|{_BESIDE})(?:\s+|$|(?<=[\u3400-\u9fff]))))+")
# The last that is said is what is answered, but thanks are answered before a goodbye is.
_BY_WEIGHT = (Courtesy.THANKS, Courtesy.GOODBYE, Courtesy.GREETING)


def courtesy_of(message: str) -> Courtesy | None:
    """What a message is where it only greets, thanks or says goodbye; None: there is more in it, or nothing of that."""
    if len(message) > MOST_CHARS:
        return None
    plain = _PAUSE.sub(" ", fold(message)).strip()
    if _ALL.fullmatch(plain) is None:
        return None
    return next((kind for kind in _BY_WEIGHT if _KINDS[kind].search(plain)), None)
