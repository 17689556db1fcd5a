"""Checks deploy/: the manifests parse, and have what a server needs of them. By hand, with PyYAML: python deploy/check.py"""

import pathlib
import re

import yaml

HERE = pathlib.Path(__file__).parent
LIMITS = (HERE.parent / "crates/serve/src/server.rs").read_text()
METRICS = (HERE.parent / "crates/serve/src/metrics.rs").read_text()
ROUTES = (HERE.parent / "crates/serve/src/routes.rs").read_text()


def load(name):
    documents = list(yaml.safe_load_all((HERE / "kubernetes" / name).read_text()))
    assert len(documents) == 1, name
    return documents[0]


def check_deployment(deployment):
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    linger, drain = (int(re.search(name + r": Duration::from_secs\((\d+)\)", LIMITS)[1]) for name in ("linger", "drain"))
    assert spec["terminationGracePeriodSeconds"] > linger + drain + 2, "the grace is shorter than the end of the server"
    assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        path = container[probe]["httpGet"]["path"]
        assert f'open("{path}"' in ROUTES, f"{path} is no open route"
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert container["env"][0]["name"] == "PASTURE_API_KEY" and "secretKeyRef" in container["env"][0]["valueFrom"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in spec["volumes"]}
    assert container["resources"]["limits"]["memory"]
    return labels, {port["name"] for port in container["ports"]}


def check_service(service, labels, ports):
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert all(port["targetPort"] in ports for port in service["spec"]["ports"])


def check_scaler(scaler, deployment):
    assert (scaler["apiVersion"], scaler["kind"]) == ("autoscaling/v2", "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])
    assert target["apiVersion"] == deployment["apiVersion"]
    assert 1 <= scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]
    for metric in scaler["spec"]["metrics"]:
        name = metric["pods"]["metric"]["name"]
        assert f'"{name}"' in METRICS, f"there is no metric {name}"


def check_unit(text):
    rows = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
    rows = {name: value for name, value in rows}
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute", "DynamicUser"):
        assert rows[name] == "yes", name
    assert rows["ProtectSystem"] == "strict" and rows["CapabilityBoundingSet"] == ""
    assert int(rows["TimeoutStopSec"]) > 30


def check_container(text):
    words = [line.split()[0] for line in text.splitlines() if re.match("[A-Z]+ ", line)]
    assert words[0] == "FROM" and words.count("FROM") == 2
    assert re.search(r"^USER (?!0)\d+:\d+$", text, re.M) and "ENTRYPOINT" in words and "STOPSIGNAL SIGTERM" in text


deployment = load("deployment.yaml")
check_service(load("service.yaml"), *check_deployment(deployment))
check_scaler(load("hpa.yaml"), deployment)
check_unit((HERE / "pasture.service").read_text())
check_container((HERE / "Containerfile").read_text())
print("deploy: 5 files are sound")
