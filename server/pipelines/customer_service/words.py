"""The words of a text that say what it is about, the same for a question and for what may answer it.

English words lose their endings, Chinese text becomes pairs of characters; words that every question has are left out.
"""

from __future__ import annotations

import re
from functools import lru_cache

from server.pipelines.product_copy.folding import CJK, fold, stem

_WORD = re.compile(rf"[a-z0-9]+(?:[.'-][a-z0-9]+)*|[{CJK}]+")
_ENGLISH = frozenset(
    ["a", "an", "the", "and", "or", "but", "if", "of", "to", "in", "on", "at", "for", "with", "from", "by", "as", "is", "are",
     "was", "were", "be", "been", "am", "do", "does", "did", "have", "has", "had", "can", "could", "will", "would", "shall",
     "should", "may", "might", "must", "i", "i'm", "i'd", "i've", "me", "my", "mine", "we", "us", "our", "you", "your", "it",
     "its", "it's", "they", "them", "their", "this", "that", "these", "those", "there", "here", "what", "what's", "which",
     "who", "when", "where", "why", "how", "so", "then", "than", "too", "also", "just", "please", "hi", "hello", "hey",
     "thanks", "thank", "about", "not", "no", "don't", "any", "some", "one", "ok", "okay", "tell", "know", "want", "need",
     "like", "get", "go", "let", "long", "much", "many", "take", "there's", "i'll", "you'll"]
)  # fmt: skip
_CHINESE = re.compile(
    r"请问|你好|您好|谢谢|需不需要|要不要|需要|应该|什么时候|我想|想要|想问|问一下|告诉|知道|什么|怎么样|怎么|怎样|如何|多久|多少|多长|时间|是否|可以|能不能|能否|可不可以|有没有|"
    r"哪些|哪里|哪儿|哪个|为什么|是不是|一下|一个|这个|那个|你们|我们|他们|它们|的话|[吗呢吧啊呀了的是我你您它他她在和与或及就也都还要会能可以把被给对从到这那么哪几嘛哦]"
)  # fmt: skip
_SUFFIXES = ("ing", "ed", "ly", "ment", "ation", "able", "ible")


@lru_cache(maxsize=4096)
def content_words(text: str) -> frozenset[str]:
    """What a text is about; empty where it has only words that every question has."""
    found = set()
    for run in _WORD.findall(fold(text)):
        if run[0].isascii():
            if run not in _ENGLISH:
                found.add(root(run))
        else:
            for part in _CHINESE.sub(" ", run).split():
                found.update(part[at : at + 2] for at in range(max(1, len(part) - 1)))
    return frozenset(found)


@lru_cache(maxsize=8192)
def root(word: str) -> str:
    """A word without its common endings; crude on purpose and the same for both sides."""
    word = stem(word.removesuffix("'s"))
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            word = word.removesuffix(suffix)
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sle":
                word = word[:-1]  # shipp, cancell
            break
    return word.removesuffix("e") if len(word) > 4 else word


def has_words(text: str) -> bool:
    """Whether there is a letter or a digit in it: a row of emoji or of dots is no question."""
    return any(char.isalnum() for char in text)


def coverage(asked: frozenset[str], told: frozenset[str]) -> float:
    """Share of the words of a question that an answer has, 0 to 1; 0 where the question has none."""
    return len(asked & told) / len(asked) if asked else 0.0
