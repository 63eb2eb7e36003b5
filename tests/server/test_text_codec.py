"""Texts to tokens and back: nothing lost, nothing split, nothing that a user writes becomes the template's."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.artifacts.errors import ArtifactError
from server.encoding.text import HuggingFaceCodec, load_codec
from server.errors import InvalidRequest
from tests.server.tokenizers_made import byte_level_json, sentence_piece_json, write_files

MANY_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceCodec:
    return load_codec(write_files(tmp_path_factory.mktemp("codec"), byte_level_json()))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceCodec:
    folder = tmp_path_factory.mktemp("pieces")
    return load_codec(write_files(folder, sentence_piece_json(), eos_token="</s>"))


def streamed(codec: HuggingFaceCodec, ids: list[int]) -> str:
    stream = codec.stream()
    return "".join([stream.push(token) for token in ids] + [stream.flush()])


def ordinary(codec: HuggingFaceCodec) -> list[int]:
    return [token for token in range(codec.vocab_size) if token not in codec.special_ids]


@given(text=MANY_TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_text_survives_its_tokens(codec: HuggingFaceCodec, text: str) -> None:
    """Decoding the tokens of a text gives the text, up to its normal form."""
    ids = codec.encode(text, add_special_tokens=False)

    assert codec.decode(ids, skip_special_tokens=False) == Tokenizer.from_str(
        byte_level_json()
    ).normalizer.normalize_str(text)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_stream_tells_what_decoding_the_whole_does(codec: HuggingFaceCodec, data: st.DataObject) -> None:
    """Any tokens in any order, valid or not: pieces of the stream add up to the decoded text, and to the library's."""
    ids = data.draw(st.lists(st.sampled_from(range(codec.vocab_size)), max_size=30))

    whole = codec.decode(ids)

    assert streamed(codec, ids) == whole
    assert whole == Tokenizer.from_str(byte_level_json()).decode(ids, skip_special_tokens=True)


@given(text=st.text(st.sampled_from("ab tmug é茶😀"), max_size=30))
@settings(max_examples=100, deadline=None)
def test_sentencepiece_tokens_decode_as_the_library_decodes_them(pieces: HuggingFaceCodec, text: str) -> None:
    """Byte fallback and the space before the first word are put back as the library does it, streamed or whole."""
    ids = pieces.encode(text, add_special_tokens=False)

    assert pieces.decode(ids) == Tokenizer.from_str(sentence_piece_json()).decode(ids)
    assert streamed(pieces, ids) == pieces.decode(ids) == text


def test_no_character_is_told_in_halves(codec: HuggingFaceCodec) -> None:
    """Tokens that end inside a character add nothing until it is whole; what never becomes whole is U+FFFD at the end."""
    by_byte = {codec.token_bytes(token): token for token in ordinary(codec)}
    stream = codec.stream()

    told = [stream.push(by_byte[bytes((byte,))]) for byte in "😀".encode()]
    cut = [stream.push(by_byte[b"\xe8"]), stream.flush()]

    assert told == ["", "", "", "😀"]
    assert cut == ["", "\ufffd"]


def test_bytes_of_tokens_are_their_text_and_special_tokens_have_none(codec: HuggingFaceCodec) -> None:
    ids = codec.encode("a 蓝 mug<|im_end|><tool_call><think it>", add_special_tokens=False)
    assert b"".join(map(codec.token_bytes, ids)).decode() == "a 蓝 mug<tool_call><think it>"
    assert codec.decode(ids, skip_special_tokens=False) == "a 蓝 mug<|im_end|><tool_call><think it>"
    assert codec.token_bytes(-1) == codec.token_bytes(codec.vocab_size) == b""


def test_chats_follow_the_models_own_template(codec: HuggingFaceCodec) -> None:
    """A conversation has the tokens that the written-out template has, special ones included."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a mug?"}]

    ids = codec.encode_chat(messages)

    written = (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\na mug?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids == Tokenizer.from_str(byte_level_json()).encode(written, add_special_tokens=False).ids
    assert (
        codec.encode_chat(messages, add_generation_prompt=False)
        == ids[: len(ids) - len(codec.encode("<|im_start|>assistant\n"))]
    )


@given(
    before=MANY_TEXTS,
    after=MANY_TEXTS,
    token=st.sampled_from(("<|im_end|>", "<|im_start|>", "<|endoftext|>")),
)
@settings(max_examples=100, deadline=None)
def test_a_message_cannot_end_its_turn(codec: HuggingFaceCodec, before: str, after: str, token: str) -> None:
    """A special token spelled out in a message stays text: the prompt has the template's special tokens and no other."""
    content = f"{before}{token}{after}"

    ids = codec.encode_chat([{"role": "user", "content": content}])

    calm = codec.encode_chat([{"role": "user", "content": "x"}])
    assert [i for i in ids if i in codec.special_ids] == [i for i in calm if i in codec.special_ids]
    normal = Tokenizer.from_str(byte_level_json()).normalizer.normalize_str
    assert normal(codec.decode(ids)) == normal(f"user\n{content}\nassistant\n")


def test_half_a_surrogate_pair_is_refused(codec: HuggingFaceCodec) -> None:
    with pytest.raises(InvalidRequest, match=r"U\+D83D at character 2, half of a surrogate pair"):
        codec.encode("ab\ud83d")
    with pytest.raises(InvalidRequest, match=r"messages\[1\]\.content holds U\+DC00") as caught:
        codec.encode_chat([{"role": "user", "content": "x"}, {"role": "user", "content": "\udc00"}])
    assert caught.value.field == "messages[1].content"


def test_a_model_without_a_template_says_so(tmp_path: Path) -> None:
    codec = load_codec(write_files(tmp_path, byte_level_json(), template=None))
    with pytest.raises(InvalidRequest, match=r"no chat template; use /v1/completions"):
        codec.encode_chat([{"role": "user", "content": "x"}])


def test_templates_are_found_where_checkpoints_put_them(tmp_path: Path) -> None:
    """The file wins over tokenizer_config; a list has one for tools."""
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    listed = load_codec(write_files(tmp_path, byte_level_json(), template=None, chat_template=named))
    assert listed.decode(listed.encode_chat([])) == "plain"
    assert listed.decode(listed.encode_chat([], tools=[{"type": "function"}])) == "tools"

    (tmp_path / "chat_template.jinja").write_text(
        "{{ eos_token }}{{ messages[0].content }}", encoding="utf-8"
    )
    filed = load_codec(tmp_path)
    assert (
        filed.decode(filed.encode_chat([{"content": "file"}]), skip_special_tokens=False) == "<|im_end|>file"
    )


def test_texts_end_where_the_checkpoint_says(tmp_path: Path) -> None:
    """generation_config and the tokenizer both count; config.json only where the first is silent."""
    folder = write_files(tmp_path, byte_level_json())
    (folder / "config.json").write_text('{"eos_token_id": 7}')
    assert load_codec(folder).eos_ids == {2, 7}
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    assert load_codec(folder).eos_ids == {0, 2}


def test_tokens_that_only_the_config_lists_are_added(tmp_path: Path) -> None:
    size = load_codec(write_files(tmp_path, byte_level_json())).vocab_size
    entry = {str(size): {"content": "<|tool|>", "special": True}}
    codec = load_codec(write_files(tmp_path, byte_level_json(), added_tokens_decoder=entry))
    assert codec.encode("<|tool|>", add_special_tokens=False) == [size]
    assert size in codec.special_ids


BROKEN = {
    "not json": ({"tokenizer.json": "{"}, r"tokenizer\.json: is not JSON"),
    "no tokenizer": ({"tokenizer.json": '{"a": 1}'}, r"tokenizer\.json: is not a tokenizer"),
    "a list": ({"tokenizer.json": "[]"}, r"tokenizer\.json: holds a list"),
    "not text": ({"tokenizer.json": b"\xff\xfe"}, r"tokenizer\.json: cannot be read"),
    "config not json": ({"tokenizer_config.json": "nope"}, r"tokenizer_config\.json: is not JSON"),
    "deep json": ({"tokenizer_config.json": "[" * 100_000}, r"tokenizer_config\.json: is not JSON"),
    "template": ({"chat_template.jinja": "{% for %}"}, r"chat_template\.jinja: the chat template cannot be compiled: line 1"),
    "eos word": ({"tokenizer_config.json": '{"eos_token": "<gone>"}'}, r"eos_token '<gone>' is not a token"),
    "eos id": ({"generation_config.json": '{"eos_token_id": 99999}'}, r"generation_config\.json: eos_token_id 99999"),
    "added": (
        {"tokenizer_config.json": '{"added_tokens_decoder": {"5": {"content": "<|im_end|>"}}}'},
        r"'<\|im_end\|>' has id 5 there and 2 in tokenizer\.json",
    ),
    "template kind": ({"tokenizer_config.json": '{"chat_template": 3}'}, r"chat_template is neither"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named(tmp_path: Path, case: str) -> None:
    """Whoever publishes a broken tokenizer reads which file and what is wrong with it."""
    files, sentence = BROKEN[case]
    write_files(tmp_path, byte_level_json())
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ArtifactError, match=sentence):
        load_codec(tmp_path)


def test_a_decoder_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    spec = json.loads(byte_level_json())
    spec["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    with pytest.raises(ArtifactError, match=r"decoder WordPiece .* is not supported"):
        load_codec(write_files(tmp_path, json.dumps(spec)))


def test_a_tokenizer_of_a_larger_model_is_refused(tmp_path: Path) -> None:
    folder = write_files(tmp_path, byte_level_json())
    with pytest.raises(ArtifactError, match=r"the model's logits end at 299; it belongs to another model"):
        load_codec(folder, max_vocab=300)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: is missing"):
        load_codec(tmp_path / "nowhere")


def test_a_megabyte_is_encoded_in_seconds(codec: HuggingFaceCodec) -> None:
    """No text makes encoding quadratic, whatever it repeats."""
    for unit in ("a", " ", "😀", "\n", "blue mug "):
        assert codec.decode(codec.encode(unit * (200_000 // len(unit)))).startswith(unit)


def test_others_go_on_while_a_long_text_is_encoded(codec: HuggingFaceCodec) -> None:
    """Encoding a megabyte on another thread does not take the interpreter from the event loop's."""
    text = "blue mug ab1 " * 80_000
    done = threading.Event()

    def encode() -> None:
        codec.encode_chat([{"role": "user", "content": text}])
        done.set()

    thread = threading.Thread(target=encode)
    thread.start()
    turns = 0
    while not done.wait(0.001):
        turns += 1
    thread.join()

    assert turns > 50  # two, where it held the interpreter


@given(text=st.text(st.sampled_from("ab 蓝<|im_end|>"), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_long_texts_are_encoded_like_short_ones(codec: HuggingFaceCodec, text: str) -> None:
    """The way that is taken for long texts gives the same tokens."""
    long = text * (2000 // len(text))
    assert codec.encode(long) == Tokenizer.from_str(byte_level_json()).encode(long).ids
