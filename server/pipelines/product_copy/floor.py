"""The floor under the model: what of a draft is missing is taken from the templates, and there is always something to take.

Templates are checked like everything else, because a record's own title can hold what may not be said. So the last rungs
claim less and less: the template without the sentence that is refused, the brand and the kind of product, and in the end
words that claim nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from server.copy_domain import CopyRequest, CopyText, Effort, Language
from server.pipelines.product_copy.draft import Draft
from server.pipelines.product_copy.ports import CopyTemplates
from server.pipelines.product_copy.style_rules import LAST_WORDS

_TRIES = 3  # other variants of the template, when one does not fit


def complete(draft: Draft, templates: CopyTemplates, variant: int) -> None:
    """Put into a draft what it misses; afterwards it is whole. Without its description, nothing of the model's stays but what was told.

    Bullets are taken where the description is: beside a model's text they would repeat it.
    """
    if "description" not in draft.texts and not draft.told:
        draft.withdraw()
    names = draft.missing()
    if not names:
        return
    texts = _Texts(draft.request, templates, variant)
    for name in names:
        for text in _rungs(draft.request, texts, name):
            judged = draft.judge(name, text, trusted=True)
            if not judged.good:
                judged = draft.without_refused(name, judged, trusted=True)
            if judged.good:
                draft.release(name, judged, Effort.TEMPLATE)
                break
    if "description" in names:
        _bullets(draft, next(iter(texts)))


class _Texts:
    """The template's variants, each written when it is looked at."""

    def __init__(self, request: CopyRequest, templates: CopyTemplates, variant: int) -> None:
        self._written: list[CopyText] = []
        self._next = (templates.write(request, variant + other) for other in range(_TRIES))

    def __iter__(self) -> Iterator[CopyText]:
        yield from self._written
        for text in self._next:
            self._written.append(text)
            yield text


def _bullets(draft: Draft, text: CopyText) -> None:
    for bullet in text.bullets:
        name = draft.next_bullet
        judged = draft.judge(name, bullet, trusted=True)
        if judged.good and not judged.cut:
            draft.release(name, judged, Effort.TEMPLATE)


def _rungs(request: CopyRequest, texts: _Texts, name: str) -> Iterator[str]:
    for text in texts:
        yield text.headline if name == "headline" else text.description
    product = request.product
    joint = " " if request.language is Language.EN else ""
    kind = product.category.rsplit("/", 1)[-1].rsplit(">", 1)[-1].strip()
    yield joint.join(word for word in (product.brand, kind) if word)
    yield kind
    yield product.brand
    for headline, description in LAST_WORDS[request.language]:
        yield headline if name == "headline" else description
