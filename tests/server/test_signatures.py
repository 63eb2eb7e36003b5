"""Where keys are configured, nothing unsigned, wrongly signed or changed is ever served."""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from build_engines.errors import BuildError
from build_engines.signing import new_keys, signer
from server.artifacts.disk import Disk
from server.artifacts.errors import ArtifactError, UntrustedVersion
from server.artifacts.manifest import MANIFEST_FILE
from server.artifacts.releases import Releases
from server.artifacts.repository import current_version, open_version, versions
from server.artifacts.signatures import SIGNATURE_FILE, TrustedKeys, key_id, parse_key
from server.pipelines.live_model import LiveRecommender, LoadOptions
from server.pipelines.trust import trusted_keys
from server.settings import Settings
from tests.tiny import Tiny, publish_tiny


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and the public one."""
    private = tmp_path / "shop.key"
    return private, new_keys(private, comment="the shop")[0]


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return publish_tiny(tmp_path / "repository")


def sign(tiny: Tiny, private: Path) -> None:
    Releases(repository=tiny.repository, sign=signer(private)).resign("tiny", tiny.opened.manifest.version)


def test_a_signed_version_opens_and_an_unsigned_one_does_not(tiny: Tiny, keys: tuple[Path, Path]) -> None:
    """The sentence says what is missing and what to do."""
    trusted = TrustedKeys.read([str(keys[1])])

    with pytest.raises(
        UntrustedVersion, match=r"is not signed.*build_engines sign MODEL --key FILE.*roll back"
    ):
        open_version(tiny.opened.folder, trusted=trusted)
    sign(tiny, keys[0])

    assert open_version(tiny.opened.folder, trusted=trusted).manifest == tiny.opened.manifest


def _other_key(folder: Path) -> None:
    new_keys(folder.parent / "other.key")
    data = (folder / MANIFEST_FILE).read_bytes()
    (folder / SIGNATURE_FILE).write_bytes(signer(folder.parent / "other.key")(data))


def _other_manifest(folder: Path) -> None:
    text = (folder / MANIFEST_FILE).read_text(encoding="utf-8")
    (folder / MANIFEST_FILE).write_text(text.replace('"flags": []', '"flags": ["x"]'), encoding="utf-8")


def _cut(folder: Path) -> None:
    (folder / SIGNATURE_FILE).write_bytes((folder / SIGNATURE_FILE).read_bytes()[:20])


def _another_word(folder: Path) -> None:
    # A signature over the manifest alone, without the word that says what it is for.
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = json.loads((folder / SIGNATURE_FILE).read_bytes())
    key = load_pem_private_key((folder.parents[2] / "shop.key").read_bytes(), password=None)
    found["signature"] = base64.b64encode(key.sign((folder / MANIFEST_FILE).read_bytes())).decode()  # type: ignore[union-attr, call-arg, arg-type]
    (folder / SIGNATURE_FILE).write_text(json.dumps(found), encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_other_key, "which is not trusted here"),
        (_other_manifest, "did not sign: it was changed"),
        (_cut, "damaged manifest.sig"),
        (_another_word, "did not sign"),
    ],
)
def test_what_was_changed_after_signing_is_refused(
    tiny: Tiny, keys: tuple[Path, Path], harm: Callable[[Path], None], said: str
) -> None:
    """Another key, another manifest, half a signature, a signature for something else."""
    sign(tiny, keys[0])
    harm(tiny.opened.folder)

    with pytest.raises(UntrustedVersion, match=said):
        open_version(tiny.opened.folder, trusted=TrustedKeys.read([str(keys[1])]))


def test_a_file_that_was_changed_is_refused_though_the_manifest_is_signed(
    tiny: Tiny, keys: tuple[Path, Path]
) -> None:
    """The signature covers every file by its hash."""
    sign(tiny, keys[0])
    path = tiny.opened.folder / "item_ids.json"
    path.write_bytes(path.read_bytes().replace(b"sku-1", b"sku-X", 1))

    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        open_version(tiny.opened.folder, trusted=TrustedKeys.read([str(keys[1])]))


def test_a_publish_signs_what_it_publishes(tmp_path: Path, tiny: Tiny, keys: tuple[Path, Path]) -> None:
    """The number is set while publishing, so the signature is made there; the copy opens with the key."""
    releases = Releases(repository=tmp_path / "other", sign=signer(keys[0]))

    published = releases.publish(tiny.opened.folder, "tiny")

    assert open_version(published.folder, trusted=TrustedKeys.read([str(keys[1])])).manifest.version == "1"


def test_a_disk_that_fills_up_at_the_signature_publishes_nothing(
    tmp_path: Path, tiny: Tiny, keys: tuple[Path, Path]
) -> None:
    """No version without its signature is left behind."""

    class Full(Disk):
        def create(self, path: Path) -> int:
            if path.name == SIGNATURE_FILE:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return super().create(path)

    releases = Releases(repository=tmp_path / "other", sign=signer(keys[0]))
    with pytest.raises(ArtifactError, match=r"No space left on device.*free some space"):
        replace(releases, disk=Full()).publish(tiny.opened.folder, "tiny")

    assert versions(tmp_path / "other", "tiny") == []


async def test_a_swap_keeps_the_old_version_where_the_new_one_is_not_signed(
    tmp_path: Path, tiny: Tiny, keys: tuple[Path, Path]
) -> None:
    """Version 1 is signed and serves; version 2 is not, is counted as refused, and version 1 goes on; signed, it is taken up."""
    sign(tiny, keys[0])
    options = LoadOptions(trusted=TrustedKeys.read([str(keys[1])]))
    live = LiveRecommender(tiny.repository, "tiny", options=options, reload_interval_s=0)
    await live.start()
    try:
        second = publish_tiny(tiny.repository, seed=1)
        assert current_version(tiny.repository, "tiny") == "2"

        assert not await live.check_for_new_version()
        assert live.info().version == "1"
        assert live.reload_failures["refused"] == 1

        third = publish_tiny(tiny.repository, seed=2)
        sign(third, keys[0])
        assert await live.check_for_new_version()
        assert live.info().version == "3"
        assert second.opened.manifest.version == "2"
    finally:
        await live.close(1.0)


def test_settings_take_files_and_texts_and_refuse_what_is_no_key(keys: tuple[Path, Path]) -> None:
    """One line each; a typo stops the start with the setting's name."""
    text = keys[1].read_text(encoding="utf-8").split()[1]
    both = trusted_keys(Settings.from_env({"VITRINE_TRUSTED_KEYS": f"{keys[1]}, {text}"}))

    assert both is not None and both.keys == (parse_key(text), parse_key(text))
    assert trusted_keys(Settings()) is None
    with pytest.raises(ValueError, match=r"VITRINE_TRUSTED_KEYS: .*'nonsense'.*44 characters"):
        trusted_keys(Settings(trusted_keys=("nonsense",)))


def test_a_private_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    """Mode 0600; a second key of that name is an error; a public key signs nothing."""
    public, name = new_keys(tmp_path / "a.key")

    assert os.stat(tmp_path / "a.key").st_mode & 0o777 == 0o600
    assert key_id(parse_key(public.read_text(encoding="utf-8"))) == name
    with pytest.raises(BuildError, match="never overwritten"):
        new_keys(tmp_path / "a.key")
    with pytest.raises(BuildError, match="is no private key"):
        signer(public)
    with pytest.raises(BuildError, match="keys new"):
        signer(tmp_path / "absent.key")
