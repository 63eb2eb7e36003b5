"""A chat template that takes no conversation is the model's fault: found when it is loaded, and told as that."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_engines.data.errors import DataError
from build_engines.text.checkpoint import open_checkpoint
from server.encoding.text import load_codec
from server.errors import EngineFault
from tests.server.tokenizers_made import byte_level_json, write_files

BROKEN = {
    "raises": "{{ raise_exception('no') }}",
    "loops": "{% for i in range(1000000000) %}{% endfor %}",
    "many turns": "{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}",
    "class": "{{ ''.__class__.__mro__ }}",
    "long": "{{ 'a' * 10000000000 }}",
}


@pytest.mark.parametrize("template", BROKEN.values(), ids=BROKEN)
def test_a_template_that_takes_nothing_is_not_the_callers_fault(tmp_path: Path, template: str) -> None:
    """Known from the start; completions go on."""
    codec = load_codec(write_files(tmp_path, byte_level_json(), template=template))

    assert codec.template_fault
    with pytest.raises(EngineFault, match="template is broken"):
        codec.encode_chat([{"role": "user", "content": "hello"}])
    assert codec.encode("hello")


def test_a_template_that_needs_a_system_turn_is_none(tmp_path: Path) -> None:
    """It refuses one conversation and takes another."""
    picky = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}{{ messages[1].content }}"
    assert load_codec(write_files(tmp_path, byte_level_json(), template=picky)).template_fault is None


def test_a_checkpoint_with_such_a_template_is_not_built(tmp_path: Path) -> None:
    """Before anything is tuned or published; says which file to mend."""
    write_files(tmp_path, byte_level_json(), template=BROKEN["raises"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"one user's turn: .*chat_template"):
        open_checkpoint(tmp_path)
