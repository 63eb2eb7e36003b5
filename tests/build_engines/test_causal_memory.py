"""What packaging holds in memory, measured on the process that does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from build_engines.models.causal.options import Variant

# Resident bytes at their highest (VmHWM: anonymous memory and touched pages of mapped files alike), over what the
# interpreter and its libraries hold before, since that does not grow with the checkpoint.
CHILD = """
import json, re, sys
from pathlib import Path

import numpy as np
import build_engines.models.causal.calibrate
from build_engines.models.causal.options import TextOptions
from build_engines.models.causal.package import package_text

def status(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

checkpoint, folder, variant = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
texts = [np.random.default_rng(one).integers(0, 8192, (1, 128)) for one in range(2)]
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = status("VmRSS")
package = package_text(checkpoint, folder, options=TextOptions(variant=variant, max_context=256), calibration=texts)
print(json.dumps({"held": status("VmHWM") - before, "written": sum(package.files.values())}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    config = Qwen2Config(
        vocab_size=8192, hidden_size=512, intermediate_size=2560, num_hidden_layers=12, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux' /proc")
@pytest.mark.parametrize("variant", ["fp32", "int8", "int4"])
def test_packaging_holds_less_than_1_3_of_the_checkpoint(
    checkpoint: Path, tmp_path: Path, variant: Variant
) -> None:
    """From the checkpoint's first byte to the last kernel checked, resident memory grows by less than 1.3 times its size."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(checkpoint), str(tmp_path), variant],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = json.loads(done.stdout)

    size = (checkpoint / "model.safetensors").stat().st_size
    assert size > 100_000_000
    assert found["written"] > size / 4
    assert found["held"] < 1.3 * size, f"{found['held'] / size:.2f} of the checkpoint"
