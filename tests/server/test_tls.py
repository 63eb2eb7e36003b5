"""With a certificate and a key, all three ports speak TLS, and the answers are the same."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import grpc
import httpx
import pytest

from server.grpc_api import vitrine_pb2, vitrine_pb2_grpc
from tests.server.serving import serving

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return cert, key


async def test_http_grpc_and_metrics_speak_tls(certificate: tuple[Path, Path]) -> None:
    """A client that trusts the certificate is answered on each port."""
    cert, key = certificate
    async with serving(tls_cert=cert, tls_key=key, grpc=True) as server:
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=cert)) as client:
            url = f"https://127.0.0.1:{server.app.http_port}"
            answer = await client.post(f"{url}/v1/recommendations", json={"history": ["sku-1"], "k": 2})
            docs = await client.get(f"{url}/v1/models")
            metrics = await client.get(f"https://127.0.0.1:{server.app.metrics_port}/metrics")
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{server.app.grpc_port}", credentials) as channel:
            stub = vitrine_pb2_grpc.RecommendationsStub(channel)
            told = await stub.Recommend(vitrine_pb2.RecommendRequest(history=["sku-1"], k=2))

    assert (answer.status_code, docs.status_code, metrics.status_code) == (200, 200, 200)
    assert [item["item_id"] for item in answer.json()["items"]] == [item.item_id for item in told.items]


async def test_a_plain_client_gets_no_answer_and_harms_nobody(certificate: tuple[Path, Path]) -> None:
    """Plain text on a TLS port ends that connection only."""
    cert, key = certificate
    async with serving(tls_cert=cert, tls_key=key) as server:
        plain = await server.connect()
        plain.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await plain.closed()

        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=cert)) as client:
            alive = await client.get(f"https://127.0.0.1:{server.app.http_port}/healthz")

    assert alive.status_code == 200
