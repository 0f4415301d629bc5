"""What the Kubernetes manifests promise, without a cluster."""

from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml
from starlette.datastructures import Headers

from agent_server.access import Access
from agent_server.settings import SettingsError
from tests.deploy_files import (
    PROJECT,
    ROOT,
    dockerfile,
    image_environment,
    image_words,
    settings_from,
    stop_seconds,
)
from tests.test_budget import MAX_MEMORY, MEBIBYTE

KUBERNETES = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(KUBERNETES.glob("*.yaml*"))
PATCH = KUBERNETES / "bubblewrap" / "deployment.patch.yaml"
# The oldest version that takes the patch for bubblewrap, and the newest that is known.
VERSIONS = ("1.33", ".".join(kubernetes_validate.latest_version().split(".")[:2]))


def manifest(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text())
    return document


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifest("deployment.yaml")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    only: list[dict[str, Any]] = pod()["containers"]
    assert len(only) == 1
    return only[0]


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge of Kubernetes as far as the patch needs it: lists of named entries."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merged(base.get(key), value) for key, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list):
        named = {entry["name"]: entry for entry in base}
        changed = {entry["name"]: merged(named.get(entry["name"]), entry) for entry in patch}
        return list((named | changed).values())
    return patch


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_valid(path: Path, version: str) -> None:
    document = yaml.safe_load(path.read_text())
    kubernetes_validate.validate(document, version, strict=True)
    assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "agent-server"
    assert document["metadata"]["name"] == "agent-server"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_patch_for_bubblewrap_gives_a_valid_deployment(version: str) -> None:
    patched = merged(manifest("deployment.yaml"), yaml.safe_load(PATCH.read_text()))
    kubernetes_validate.validate(patched, version, strict=True)
    spec = patched["spec"]["template"]["spec"]
    assert spec["hostUsers"] is False
    (only,) = spec["containers"]
    assert only["securityContext"] == {
        **container()["securityContext"],
        "procMount": "Unmasked",
    }
    assert only["env"] == [{"name": "AGENT_SERVER_ISOLATION", "value": "bwrap"}]


def test_one_server_holds_the_volume() -> None:
    spec = manifest("deployment.yaml")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    (claimed,) = [v for v in pod()["volumes"] if "persistentVolumeClaim" in v]
    (mount,) = [m for m in container()["volumeMounts"] if m["name"] == claimed["name"]]
    assert mount["mountPath"] == image_environment()["AGENT_SERVER_DATA_DIR"]
    claim = claimed["persistentVolumeClaim"]["claimName"]
    assert claim == manifest("persistentvolumeclaim.yaml")["metadata"]["name"]


def test_the_pod_keeps_to_the_restricted_standard() -> None:
    security = pod()["securityContext"]
    assert security["runAsNonRoot"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    user = [str(security[name]) for name in ("runAsUser", "runAsGroup")]
    assert dict(dockerfile())["USER"] == ":".join(user)
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["automountServiceAccountToken"] is False


def test_the_pod_runs_the_images_command_below_its_init() -> None:
    assert "command" not in container()
    assert container()["args"] == image_words("CMD")
    assert container()["image"].endswith(f"/agent-server:{PROJECT['version']}")


def test_the_pod_is_probed_where_no_host_is_checked_and_has_time_to_end() -> None:
    paths = {name: container()[name]["httpGet"]["path"] for name in container() if "Probe" in name}
    assert paths == {
        "startupProbe": "/health",
        "livenessProbe": "/health",
        "readinessProbe": "/health/ready",
    }
    assert pod()["terminationGracePeriodSeconds"] > stop_seconds()


def test_the_pod_has_the_memory_of_an_idle_server() -> None:
    resources = container()["resources"]
    assert int(resources["requests"]["memory"].removesuffix("Mi")) * MEBIBYTE >= MAX_MEMORY
    assert "cpu" not in resources["limits"]


def test_no_link_of_a_service_becomes_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pod()["enableServiceLinks"] is False
    with pytest.raises(SettingsError, match="AGENT_SERVER_PORT"):
        settings_from({"AGENT_SERVER_PORT": "tcp://10.0.0.7:80"}, tmp_path, monkeypatch)


def test_the_settings_of_the_cluster_are_taken_and_name_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [source[kind]["name"] for source in container()["envFrom"] for kind in source]
    config, secret = manifest("configmap.yaml"), manifest("secret.yaml.example")
    assert names == [config["metadata"]["name"], secret["metadata"]["name"]]
    variables = config["data"] | secret["stringData"]
    settings = settings_from(variables, tmp_path, monkeypatch)
    assert settings.secret_values() == ()
    assert settings.api_keys == ()
    access = Access(
        keys=(), is_loopback=False, allowed_hosts=settings.allowed_hosts, cors_origins=()
    )
    service = manifest("service.yaml")["metadata"]
    name = f"{service['name']}.{service['namespace']}"
    for host in (service["name"], name, f"{name}.svc", f"{name}.svc.cluster.local:80"):
        access.check_host(Headers({"host": host}))


def test_service_and_policy_select_the_pod() -> None:
    deployment, service = manifest("deployment.yaml"), manifest("service.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    policy = manifest("networkpolicy.yaml")["spec"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert policy["podSelector"]["matchLabels"] == labels
    (port,) = container()["ports"]
    assert str(port["containerPort"]) == dict(dockerfile())["EXPOSE"]
    assert service["spec"]["type"] == "ClusterIP"
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port["name"]}]
