"""A cluster behind TLS: with an authority of its own, with our certificate, with a key."""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.workflow_backend.conformance.places import Place
from tests.workflow_backend.journals import Gated, step, workflow
from workflow_backend.engines.base import EngineUnavailableError
from workflow_backend.engines.temporal.link import Link
from workflow_backend.engines.temporal.options import Cluster

FLOW = workflow(step("a"))


@dataclass(frozen=True)
class Files:
    """An authority, and a certificate of it with its key."""

    authority: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files for loopback; the SDK takes no certificate that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    authority = _signed(name, authority_key, name, authority_key, is_authority=True)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    certificate = _signed(subject, key, name, authority_key, is_authority=False)
    found = Files(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    found.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    found.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    found.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return found


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


@asynccontextmanager
async def front(files: Files, behind: Cluster, *, asks: bool) -> AsyncIterator[str]:
    """What ends TLS in front of a cluster; with `asks` clients need a certificate too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.authority)
    host, _, port = behind.host.rpartition(":")
    pipes: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        tasks = [
            asyncio.create_task(_pipe(reader, inner_writer)),
            asyncio.create_task(_pipe(inner_reader, writer)),
        ]
        pipes.update(tasks)

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


async def test_a_cluster_is_used_through_mutual_tls(temporal: Place, files: Files) -> None:
    assert temporal.cluster is not None
    async with front(files, temporal.cluster, asks=True) as host:
        temporal.cluster = Cluster(
            host, tls_ca=files.authority, tls_cert=files.certificate, tls_key=files.key
        )
        async with temporal.engine(Gated()) as engine:
            await engine.start(temporal.id(), FLOW, {}, temporal.owner)
            await temporal.follow(engine)
            assert (await temporal.get(engine)).status == "success"


async def test_a_key_alone_turns_tls_on(temporal: Place, files: Files) -> None:
    assert temporal.cluster is not None
    keyed = Cluster(temporal.cluster.host, api_key="key-of-cloud")
    with pytest.raises(EngineUnavailableError):
        await Link(keyed, temporal.data_dir, 2.0).client()
    async with front(files, temporal.cluster, asks=False) as host:
        there = Link(replace(keyed, host=host, tls_ca=files.authority), temporal.data_dir, 5.0)
        assert await there.client()


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    temporal: Place, files: Files
) -> None:
    assert temporal.cluster is not None
    async with front(files, temporal.cluster, asks=False) as host:
        with pytest.raises(EngineUnavailableError, match="cannot be reached"):
            await Link(Cluster(host, tls=True), temporal.data_dir, 2.0).client()


async def test_a_file_that_cannot_be_read_is_told_by_its_variable(tmp_path: Path) -> None:
    link = Link(Cluster("127.0.0.1:1", tls_ca=tmp_path / "nothing"), tmp_path, 2.0)
    with pytest.raises(EngineUnavailableError, match="TEMPORAL_TLS_CA: cannot read"):
        await link.client()
