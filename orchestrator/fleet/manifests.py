"""A fleet for Kubernetes: Deployments, a Service and a NetworkPolicy, as YAML documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml

from orchestrator.errors import UsageError
from orchestrator.fleet.messages import LABEL

PORT: Final = 8786
WEB_PORT: Final = 8788
_TLS, _STORE, _WEB = "/tls", "/store", "/web"
_NAME: Final = "app.kubernetes.io/name"
_COMPONENT: Final = "app.kubernetes.io/component"


@dataclass(frozen=True, kw_only=True)
class ManifestSettings:
    """`image` has the orchestrator with its extra `fleet`; `engine_image` has Podman, whose service each worker gets.

    Secrets `NAME-scheduler` and `NAME-worker` have the files of `fleet init` for that role; a claim `NAME-store`
    holds what the scheduler keeps. With `web` it serves its page, whose `token` is in the secret `NAME-web`.
    """

    image: str
    engine_image: str = "quay.io/podman/stable:latest"
    name: str = "orchestrator-fleet"
    namespace: str = "default"
    workers: int = 2
    slots: int = 1
    labels: tuple[str, ...] = ()
    gpus: int = 0
    web: bool = False


def render_manifests(settings: ManifestSettings) -> str:
    """The documents, in one stream. UsageError for a label that is none."""
    for label in settings.labels:
        if not LABEL.fullmatch(label):
            raise UsageError(f"--label {label}: is no label", remedy="use small letters, digits and hyphens")
    services = [_service(settings, "scheduler", _port("tls", PORT))]
    if settings.web:
        services.append(_service(settings, "web", _port("web", WEB_PORT)))
    documents = [*services, _scheduler(settings), _worker(settings), *_policies(settings)]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _meta(settings: ManifestSettings, component: str) -> dict[str, Any]:
    return {"name": f"{settings.name}-{component}", "namespace": settings.namespace,
            "labels": _labels(settings, component)}  # fmt: skip


def _labels(settings: ManifestSettings, component: str) -> dict[str, str]:
    return {_NAME: settings.name, _COMPONENT: component}


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}


def _service(settings: ManifestSettings, component: str, port: dict[str, Any]) -> dict[str, Any]:
    """Of the scheduler, for one of its ports: who is let in to one is not yet at the other."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(settings, component),
        "spec": {"selector": _labels(settings, "scheduler"), "ports": [port]},
    }


def _scheduler(settings: ManifestSettings) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "scheduler",
        "image": settings.image,
        "command": ["python", "-m", "orchestrator", "fleet", "serve"],
        "args": ["--tls", _TLS, "--store", _STORE, "--port", str(PORT), "--dashboard", "none"],
        "ports": [{"name": "tls", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 5},
        "securityContext": _unprivileged(),
        "volumeMounts": [
            {"name": "tls", "mountPath": _TLS, "readOnly": True},
            {"name": "store", "mountPath": _STORE},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    claim = {"name": "store", "persistentVolumeClaim": {"claimName": f"{settings.name}-store"}}
    volumes = [_secret(settings, "scheduler"), claim, {"name": "tmp", "emptyDir": {}}]
    if settings.web:
        name = f"{settings.name}-web.{settings.namespace}.svc"
        container["args"] += ["--web", f"0.0.0.0:{WEB_PORT}", "--token-file", f"{_WEB}/token", "--allow-host", name]
        container["ports"].append({"name": "web", "containerPort": WEB_PORT})
        container["volumeMounts"].append({"name": "web", "mountPath": _WEB, "readOnly": True})
        container["env"] = [{"name": "HOME", "value": "/tmp"}]  # the charts' library is bundled there
        volumes.append({"name": "web", "secret": {"secretName": f"{settings.name}-web", "defaultMode": 0o440}})
    # One at a time holds the store.
    return _deployment(settings, "scheduler", 1, [container], volumes)


def _worker(settings: ManifestSettings) -> dict[str, Any]:
    address = f"tls://{settings.name}-scheduler.{settings.namespace}.svc:{PORT}"
    labels = [word for label in settings.labels for word in ("--label", label)]
    worker = {
        "name": "worker",
        "image": settings.image,
        "command": ["python", "-m", "orchestrator", "fleet", "worker", address],
        "args": ["--tls", _TLS, "--engine", "unix:///engine/podman.sock", "--slots", str(settings.slots),
                 "--name", "$(NODE)", "--host", "$(ADDRESS)", "--store", f"{_STORE}/fleet", *labels],
        "env": [
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "HOME", "value": _STORE},
        ],
        # As root without any power: the engine's socket is root's alone.
        "securityContext": _unprivileged() | {"runAsNonRoot": False, "runAsUser": 0},
        "volumeMounts": [
            {"name": "tls", "mountPath": _TLS, "readOnly": True},
            {"name": "engine", "mountPath": "/engine"},
            {"name": "store", "mountPath": _STORE},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }  # fmt: skip
    if settings.gpus:
        worker["resources"] = {"limits": {"nvidia.com/gpu": settings.gpus}}
    # Build steps are containers in this one, which Kubernetes lets only a privileged one have.
    engine = {
        "name": "engine",
        "image": settings.engine_image,
        "command": ["podman", "system", "service", "--time=0", "unix:///engine/podman.sock"],
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": "engine", "mountPath": "/engine"},
            {"name": "layers", "mountPath": "/var/lib/containers"},
        ],
    }
    volumes = [_secret(settings, "worker"), *({"name": name, "emptyDir": {}}
                                              for name in ("engine", "layers", "store", "tmp"))]  # fmt: skip
    return _deployment(settings, "worker", settings.workers, [worker, engine], volumes)


def _deployment(
    settings: ManifestSettings, component: str, replicas: int, containers: list[Any], volumes: list[Any]
) -> dict[str, Any]:
    strategy = {"type": "Recreate"} if component == "scheduler" else {"type": "RollingUpdate"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(settings, component),
        "spec": {
            "replicas": replicas,
            "strategy": strategy,
            "selector": {"matchLabels": _labels(settings, component)},
            "template": {
                "metadata": {"labels": _labels(settings, component)},
                "spec": {
                    "automountServiceAccountToken": False,  # a build has no business with the cluster
                    "securityContext": {"fsGroup": 1000},
                    "terminationGracePeriodSeconds": 60,
                    "containers": containers,
                    "volumes": volumes,
                },
            },
        },
    }


def _unprivileged() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _secret(settings: ManifestSettings, role: str) -> dict[str, Any]:
    return {"name": "tls", "secret": {"secretName": f"{settings.name}-{role}", "defaultMode": 0o440}}


def _policies(settings: ManifestSettings) -> list[dict[str, Any]]:
    """To the scheduler: on its port, from anywhere (TLS tells who), and to its page from this namespace. To a worker:
    from the scheduler alone."""
    from_scheduler = {"from": [{"podSelector": {"matchLabels": _labels(settings, "scheduler")}}]}
    to_scheduler: list[dict[str, Any]] = [{"ports": [{"protocol": "TCP", "port": PORT}]}]
    if settings.web:
        to_scheduler.append({"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": WEB_PORT}]})
    rules = {"scheduler": to_scheduler, "worker": [from_scheduler]}
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _meta(settings, component),
            "spec": {
                "podSelector": {"matchLabels": _labels(settings, component)},
                "policyTypes": ["Ingress"],
                "ingress": ingress,
            },
        }
        for component, ingress in rules.items()
    ]
