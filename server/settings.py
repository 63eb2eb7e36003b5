"""Every knob of the server: one frozen object, read once from ``VITRINE_*`` names in a mapping that is passed in.

A name that starts with ``VITRINE_`` and is not a setting is an error that lists what it may have meant, and a value out
of range is an error that says the range: a typo must stop the start, not change the behaviour silently. The help of
``python -m server --help`` is made from the same field metadata, so it cannot miss one.

Units: in the name of each setting (``_s``, ``_ms``, ``_bytes``).
"""

# ruff: noqa: RUF009 - setting returns a dataclasses.field
from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.setting_values import PREFIX, check_range, parse, read_keys, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the server was told; each field's meaning and range is in its metadata.

    Raises:
        ValueError: a value is out of its range, or two values contradict each other; names both.
    """

    repository: Path = setting(Path("model_repository"), "folder of published models")
    model: str = setting("", "recommender to serve; empty: the only one in the repository")
    engine: str = setting("auto", "runner to use", choices=("auto", "onnxruntime", "triton"))
    triton_hosts: tuple[str, ...] = setting(
        (), "gRPC ports of Triton servers, HOST:PORT, separated by commas"
    )
    triton_lanes: int = setting(0, "batches on their way to Triton at once; 0: two a host", low=0, high=256)
    triton_hedge: bool = setting(False, "ask a second host where the first is slower than 95 in 100 answers")
    triton_wait_s: float = setting(30.0, "how long Triton may take to have a version ready", low=0, high=3600)
    engine_threads: int = setting(
        0, "threads of the CPU engine; 0: all cores but one, which is the loop's", low=0, high=1024
    )
    batch_max_items: int = setting(0, "largest batch; 0: the engine's own limit", low=0, high=65536)
    batch_max_wait_ms: float = setting(
        0.0, "longest wait for company while idle; 0: start at once", low=0, high=1000
    )
    reranker: str = setting(
        "", "re-ranker of the recommender's best items; empty: they are served in its own order"
    )
    rerank_candidates: int = setting(
        0, "items that are ranked again in one request; 0: the re-ranker's own limit", low=0, high=1000
    )
    reload_interval_s: float = setting(
        1.0, "how often the repository is looked at for a new version; 0: never", low=0, high=3600
    )

    trusted_keys: tuple[str, ...] = setting(
        (),
        "public keys (files, or base64), separated by commas: only versions that one of them signed are served; none: any",
    )

    host: str = setting("127.0.0.1", "address of HTTP and gRPC; 0.0.0.0 for all interfaces")
    http_port: int = setting(8000, "HTTP port; 0: any free one", low=0, high=65535)
    grpc_port: int = setting(8001, "gRPC port; 0: any free one", low=0, high=65535)
    grpc: bool = setting(True, "serve gRPC")
    metrics_host: str = setting("", "address of the metrics port; empty: as host")
    metrics_port: int = setting(8002, "metrics port; 0: any free one", low=0, high=65535)
    metrics: bool = setting(True, "count and measure; off saves about 1 % of the CPU per request")

    kserve: bool = setting(True, "serve KServe v2 (/v2/..., inference.GRPCInferenceService)")
    kserve_control: bool = setting(
        False, "let callers have versions looked for (load) and models withdrawn from KServe (unload)"
    )

    api_keys: tuple[str, ...] = setting(
        (), "keys that may call, separated by commas; none: open", secret=True
    )
    api_keys_file: Path | None = setting(None, "file with one key a line, added to the above")
    tls_cert: Path | None = setting(None, "PEM certificate chain, for all three ports")
    tls_key: Path | None = setting(None, "PEM private key of it")

    fallback: bool = setting(True, "answer from the fallback tier what the model cannot answer in time")
    default_deadline_ms: float = setting(100.0, "deadline of a request that names none", low=1, high=600_000)
    max_deadline_ms: float = setting(10_000.0, "longer deadlines are taken as this", low=1, high=600_000)
    max_in_flight: int = setting(
        512, "requests admitted at once; more are refused with 429", low=1, high=65536
    )
    target_wait_ms: float = setting(
        20.0,
        "under overload, admit what the measured rate answers within this; 0: max_in_flight alone",
        low=0,
        high=60_000,
    )
    max_batch_requests: int = setting(256, "shoppers in one batch call", low=1, high=4096)
    max_body_bytes: int = setting(
        1 << 20, "largest request body; more is refused with 413", low=1024, high=1 << 30
    )
    max_bytes_in_flight: int = setting(
        1 << 27,
        "bytes of requests that may be arriving at once, over all connections; more is refused with 429",
        low=1024,
        high=1 << 40,
    )
    max_history: int = setting(1000, "ids in one history; the model reads the newest", low=1, high=100_000)
    max_candidates: int = setting(10_000, "ids in candidates", low=1, high=1_000_000)
    max_exclude: int = setting(10_000, "ids in exclude", low=1, high=1_000_000)

    text_model: str = setting("", "text model to serve; empty: the first one in the repository, if any")
    text_engine: str = setting(
        "", "where texts are written; empty: here; off: nowhere", choices=("", "upstream", "off")
    )
    text_threads: int = setting(0, "threads of the text engine; 0: all cores", low=0, high=1024)
    text_slots: int = setting(
        0,
        "texts at once, fewer long ones; 0: 16, or 8 in each pool of a version whose attention is not grouped",
        low=0,
        high=1024,
    )
    text_max_context: int = setting(
        0, "tokens of prompt and answer together; 0: the version's own limit", low=0, high=1 << 24
    )
    text_first_token_ms: float = setting(
        2000.0, "a text whose first token would come later is refused with 429", low=1, high=600_000
    )
    text_inter_token_ms: float = setting(
        150.0, "objective between two tokens of a text, which long prompts must not delay", low=1, high=60_000
    )
    text_max_in_flight: int = setting(256, "text requests admitted at once", low=1, high=65536)
    text_max_choices: int = setting(8, "texts of one request: prompts times n", low=1, high=256)
    text_buffer_chars: int = setting(
        1 << 18, "what a reader may leave unread before its text is cancelled", low=1024, high=1 << 30
    )
    text_default_deadline_ms: float = setting(
        120_000.0, "deadline of a whole text where none is named", low=1, high=3_600_000
    )
    text_max_deadline_ms: float = setting(
        600_000.0, "longer deadlines of texts are taken as this", low=1, high=3_600_000
    )
    text_upstream_url: tuple[str, ...] = setting(
        (), "OpenAI-compatible servers, as BASE/v1, separated by commas; the first that works is asked"
    )
    text_upstream_model: str = setting("", "model to ask there for; empty: the first that it lists")
    text_upstream_key: str = setting("", "API key for there", secret=True)
    text_upstream_retries: int = setting(
        2, "how often a text that has no token yet is asked for again", low=0, high=10
    )
    text_upstream_hedge_ms: float = setting(
        0.0, "ask a second time where no token came within this; 0: never", low=0, high=600_000
    )

    encoder: bool = setting(True, "serve embeddings, where the repository holds a sentence encoder")
    encoder_model: str = setting("", "encoder to serve; empty: the first one in the repository, if any")
    encoder_threads: int = setting(1, "threads of the encoder", low=1, high=1024)
    encoder_batch_tokens: int = setting(
        0, "tokens of a batch of texts, padding included; 0: by what a batch costs here", low=0, high=1 << 20
    )
    encoder_max_inputs: int = setting(2048, "texts of one embeddings request", low=1, high=65536)
    encoder_max_in_flight: int = setting(256, "embeddings requests admitted at once", low=1, high=65536)
    encoder_max_wait_ms: float = setting(
        2_000.0,
        "a request whose texts would wait longer for the encoder is refused with 429",
        low=1,
        high=600_000,
    )
    encoder_default_deadline_ms: float = setting(
        30_000.0, "deadline of an embeddings request that names none", low=1, high=3_600_000
    )
    encoder_max_deadline_ms: float = setting(
        120_000.0, "longer deadlines of embeddings requests are taken as this", low=1, high=3_600_000
    )

    copy: bool = setting(True, "serve product copy, by the text model or by templates")
    copy_style: Path | None = setting(None, "TOML file with the shop's own rules for product copy")
    copy_max_in_flight: int = setting(64, "product copy requests admitted at once", low=1, high=65536)
    copy_max_variants: int = setting(4, "pieces of copy in one request", low=1, high=32)
    copy_default_deadline_ms: float = setting(
        30_000.0, "deadline of product copy where none is named", low=1, high=3_600_000
    )
    copy_cache_mb: float = setting(
        64.0, "memory for copy that was written already; 0: none", low=0, high=65536
    )
    copy_cache_age_s: float = setting(86_400.0, "older copy is written anew", low=1, high=31_536_000)
    copy_jobs: Path = setting(Path(".copy_jobs"), "folder of bulk jobs; made with the first")
    copy_jobs_kept: int = setting(64, "bulk jobs that are kept, ended ones included", low=1, high=4096)
    copy_jobs_at_once: int = setting(4, "products of a bulk job on their way at once", low=1, high=256)
    copy_jobs_max_body_bytes: int = setting(64 << 20, "largest body of a bulk job", low=1024, high=1 << 34)

    knowledge: Path | None = setting(
        None,
        "knowledge file with the shop's pages; made where it is not there; none: knowledge.db in the repository, if any",
    )
    knowledge_max_document_bytes: int = setting(
        4 << 20, "largest text of a document of the knowledge base", low=1024, high=64 << 20
    )
    support: bool = setting(True, "serve customer service, by the pages, the order, or a person")
    support_max_in_flight: int = setting(
        128, "questions to customer service admitted at once", low=1, high=65536
    )
    support_default_deadline_ms: float = setting(
        5_000.0, "deadline of an answer to a shopper where none is named", low=1, high=3_600_000
    )
    support_answer_threshold: float = setting(
        0.28, "least confidence of a passage that is quoted; below it a person answers", low=0, high=1
    )
    support_words_threshold: float = setting(
        0.84, "the same while the encoder is away and words alone find passages", low=0, high=1
    )
    support_intent_threshold: float = setting(
        -1.0, "least probability of an intent, else out of scope; below 0: the model's own", low=-1, high=1
    )
    support_times_asked: int = setting(
        2, "a question asked so often in one conversation goes to a person", low=2, high=100
    )
    support_person_intents: tuple[str, ...] = setting(
        ("talk_to_person",), "labels of the classifier that mean a person is asked for, separated by commas"
    )
    support_signal_files: tuple[str, ...] = setting(
        (), "files with a shop's own words for what a person must hear, as in data/signals_en.txt"
    )
    support_injection_files: tuple[str, ...] = setting(
        (), "files with a shop's own expressions of attempts to give instructions, as in data/injections.txt"
    )
    support_order_formats: Path | None = setting(
        None, "file with the forms of the shop's order numbers, regular expressions, one a line"
    )
    support_product_names: Path | None = setting(
        None, "file with names of products that shoppers may mention, one a line"
    )
    support_quotes: int = setting(
        2, "passages quoted in one answer: the best, and those that may be as good", low=1, high=5
    )
    support_quote_chars: int = setting(480, "longest quote of an answer", low=40, high=20_000)
    support_generate: bool = setting(
        False, "let the text model phrase answers from the pages where a request does not say"
    )

    max_connections: int = setting(
        8192, "open HTTP connections; more are answered 503", low=1, high=1_000_000
    )
    keep_alive_s: float = setting(75.0, "an idle connection is closed after this", low=0.1, high=86_400)
    read_timeout_s: float = setting(10.0, "a request must have arrived whole within this", low=0.1, high=3600)
    write_timeout_s: float = setting(
        10.0, "a client that takes nothing of its answer for this long is cut off", low=0.1, high=3600
    )
    pre_stop_s: float = setting(
        0.0, "after SIGTERM, go on accepting this long while not ready", low=0, high=600
    )
    drain_s: float = setting(10.0, "after SIGTERM, longest wait for requests in flight", low=0, high=3600)

    log_level: str = setting("info", "lowest level logged", choices=("debug", "info", "warning", "error"))
    access_log: float = setting(0.0, "share of answered requests that are logged", low=0, high=1)
    max_loop_lag_s: float = setting(5.0, "a loop later than this is not alive (/healthz)", low=0.01, high=600)
    switch_interval_ms: float = setting(
        0.5, "how soon the engine's thread gets the interpreter back from the loop", low=0.01, high=100
    )

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            check_range(spec, getattr(self, spec.name))
        if (self.engine == "triton") != bool(self.triton_hosts):
            raise ValueError(
                f"{PREFIX}ENGINE is {self.engine!r} and {PREFIX}TRITON_HOSTS is {', '.join(self.triton_hosts) or 'empty'}: "
                "set both for engines on Triton servers"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{PREFIX}TLS_CERT and {PREFIX}TLS_KEY: set both or neither")
        if self.default_deadline_ms > self.max_deadline_ms:
            raise ValueError(
                f"{PREFIX}DEFAULT_DEADLINE_MS is {self.default_deadline_ms:g}, "
                f"more than {PREFIX}MAX_DEADLINE_MS {self.max_deadline_ms:g}"
            )
        if self.max_body_bytes > self.max_bytes_in_flight:
            raise ValueError(
                f"{PREFIX}MAX_BODY_BYTES is {self.max_body_bytes}, "
                f"more than {PREFIX}MAX_BYTES_IN_FLIGHT {self.max_bytes_in_flight}"
            )
        if self.text_default_deadline_ms > self.text_max_deadline_ms:
            raise ValueError(
                f"{PREFIX}TEXT_DEFAULT_DEADLINE_MS is {self.text_default_deadline_ms:g}, "
                f"more than {PREFIX}TEXT_MAX_DEADLINE_MS {self.text_max_deadline_ms:g}"
            )
        if self.encoder_default_deadline_ms > self.encoder_max_deadline_ms:
            raise ValueError(
                f"{PREFIX}ENCODER_DEFAULT_DEADLINE_MS is {self.encoder_default_deadline_ms:g}, "
                f"more than {PREFIX}ENCODER_MAX_DEADLINE_MS {self.encoder_max_deadline_ms:g}"
            )
        if (self.text_engine == "upstream") != bool(self.text_upstream_url):
            raise ValueError(
                f"{PREFIX}TEXT_ENGINE is {self.text_engine!r} and {PREFIX}TEXT_UPSTREAM_URL is "
                f"{', '.join(self.text_upstream_url) or 'empty'}: set both for texts that are written elsewhere"
            )
        if self.max_batch_requests > self.max_in_flight:
            raise ValueError(
                f"{PREFIX}MAX_BATCH_REQUESTS is {self.max_batch_requests}, "
                f"more than {PREFIX}MAX_IN_FLIGHT {self.max_in_flight}: such a call could never be admitted"
            )

    @classmethod
    def from_env(cls, env: Mapping[str, str], **overrides: Any) -> Settings:
        """Read the settings from ``VITRINE_*`` names.

        Args:
            env: usually ``os.environ``; names without the prefix are not looked at.
            overrides: fields by name, already of their type; they win over ``env``.

        Raises:
            ValueError: an unknown name (lists near ones), a value that does not parse or is out of range, or a key
                file that cannot be read.
        """
        specs = {PREFIX + spec.name.upper(): spec for spec in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for name in sorted(env):
            if not name.startswith(PREFIX):
                continue
            spec = specs.get(name)
            if spec is None:
                near = difflib.get_close_matches(name, specs, n=3, cutoff=0.6)
                hint = f"did you mean {', '.join(near)}?" if near else "see python -m server --help"
                raise ValueError(f"{name} is not a setting; {hint}")
            values[spec.name] = parse(name, str(spec.type), env[name])
            if spec.metadata["secret"] and not values[spec.name]:
                raise ValueError(
                    f"{name} is set but holds no key; unset it to serve without keys, on purpose"
                )
        values.update(overrides)
        keys_file = values.get("api_keys_file")
        if keys_file is not None:
            values["api_keys"] = (*values.get("api_keys", ()), *read_keys(keys_file))
        return cls(**values)


def describe() -> str:
    """The table of all settings, for ``--help``: name, default, range, meaning."""
    lines = ["environment (flags win over it):"]
    for spec in dataclasses.fields(Settings):
        meta = spec.metadata
        if meta["choices"]:
            bounds = " | ".join(meta["choices"])
        elif meta["low"] is not None:
            bounds = f"{meta['low']:,g} .. {meta['high']:,g}".replace(",", "_")
        else:
            bounds = {"bool": "true | false"}.get(str(spec.type), "text")
        default = "none" if spec.default in (None, (), "") else str(spec.default)
        lines.append(f"  {PREFIX + spec.name.upper():<31}{meta['about']}")
        lines.append(f"  {'':<31}default {default}; {bounds}")
    return "\n".join(lines)
