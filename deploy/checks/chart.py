"""The Helm chart, rendered by Helm's own library: with its values it is what kustomize makes of base, of base with components/traces, and of overlays/production. And it, the
Dockerfile and the workspace are of one version.

    chart.py WORK

WORK/base.yaml, WORK/traces.yaml and WORK/production.yaml are kustomize's. Writes WORK/chart.known.yaml, with every value set, for Kubernetes' schemas.
"""

import copy
import sys
import tomllib

import helm_python as helm
import yaml

CHART = "helm/rookery"
# What Helm says of itself, and what tells two releases in one namespace apart.
HELMS_OWN = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/settings"}
# Every value that the chart has nothing for by default.
ALL = {
    "imagePullSecrets": [{"name": "registry"}],
    "env": [{"name": "ROOKERY_LOG", "value": "debug"}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "podAnnotations": {"example.com/team": "shop"},
    "identitySecret": "mine",
    "clientSecret": "theirs",
    "networkPolicy": {"collectorNamespace": "observability"},
}


def demand(holds, what):
    if not holds:
        sys.exit(f"chart: {what}")


def rendered(chart, values, release="rookery", namespace="default"):
    files = chart.render(values, name=release, namespace=namespace)
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    return [o for text in texts for o in yaml.safe_load_all(text) if o]


def plain(thing):
    """Without Helm's own labels, and without what is then empty."""
    if isinstance(thing, dict):
        kept = {key: plain(value) for key, value in thing.items() if key not in HELMS_OWN}
        return {key: value for key, value in kept.items() if not (key in ("labels", "annotations") and value == {})}
    if isinstance(thing, list):
        return [plain(value) for value in thing]
    return thing


def by_name(objects):
    found = {}
    for o in objects:
        o = plain(copy.deepcopy(o))
        # Helm gives the namespace beside the manifests.
        o["metadata"].pop("namespace", None)
        found[o["kind"], o["metadata"]["name"]] = o
    return found


def references(thing, inside=""):
    """Names of objects, as they are given and as others speak of them."""
    if isinstance(thing, dict):
        for key, value in thing.items():
            if key in ("secretName", "serviceName", "serviceAccountName"):
                yield key, value
            elif key == "name" and inside in ("metadata", "configMap", "issuerRef", "scaleTargetRef"):
                yield inside, value
            elif key == "dnsNames":
                yield from ((key, name.removeprefix("*.")) for name in value)
            elif key == "env":
                yield from ((each["name"], each["value"]) for each in value if each["name"] == "ROOKERY_SERVICE")
            else:
                yield from references(value, key)
    elif isinstance(thing, list):
        for value in thing:
            yield from references(value, inside)


def differences(one, other, path=""):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other)):
            yield from differences(left, right, f"{path}[{number}]")
    elif one != other:
        yield f"{path}: {one!r:.200} by Helm, {other!r:.200} by kustomize"


def same(objects, work, overlay):
    with open(f"{work}/{overlay}.yaml") as file:
        theirs = by_name(o for o in yaml.safe_load_all(file) if o and o["kind"] != "Namespace")
    ours = by_name(objects)
    demand(ours.keys() == theirs.keys(), f"not the manifests of {overlay}: {sorted(ours.keys() ^ theirs.keys())}")
    for name in ours:
        # Helm labels all that is a release's, kustomize what is in base.
        more, labels = (o[name]["metadata"].pop("labels", {}) for o in (ours, theirs))
        demand(labels.items() <= more.items(), f"{overlay}, {' '.join(name)}: labels {more} by Helm, {labels} by kustomize")
        found = list(differences(ours[name], theirs[name]))
        demand(not found, f"{overlay}, {' '.join(name)}: {'; '.join(found)}")


def main():
    work = sys.argv[1]
    report = helm.lint(CHART, strict=True)
    # One that says nothing is wanted: an icon, for instance, is only recommended.
    bad = [m for m in report["messages"] if m["severity"] > 1]
    demand(not bad and not report["errors"], f"lint: {bad} {report['errors']}")
    with open("../Cargo.toml", "rb") as file:
        version = tomllib.load(file)["workspace"]["package"]["version"]
    with open("Dockerfile") as file:
        demand(f"\nARG VERSION={version}\n" in file.read(), f"the Dockerfile's VERSION is not {version}")
    with open(f"{CHART}/values-production.yaml") as file:
        production = yaml.safe_load(file)
    dev = {"image": {"tag": "dev"}}
    with helm.Chart.load(CHART) as chart:
        demand(str(chart.metadata["appVersion"]) == version, f"the chart's appVersion is not {version}")
        same(rendered(chart, dev), work, "base")
        same(rendered(chart, {**dev, "networkPolicy": {"collectorNamespace": "observability"}}), work, "traces")
        same(rendered(chart, production, namespace="rookery"), work, "production")
        # A release of another name is the same, and shares nothing with this one.
        other = rendered(chart, production, release="shop")
        strangers = [f"{o['kind']} {o['metadata']['name']}: {key} {value}" for o in other for key, value in references(o) if not value.startswith("shop-rookery")]
        demand(not strangers, f"names that do not follow the release's: {'; '.join(strangers)}")
        same(yaml.safe_load(yaml.safe_dump(other).replace("shop-rookery", "rookery")), work, "production")
        for wrong in ({"replicas": "three"}, {"replica": 5}, {"certManager": {"enable": True}}):
            try:
                rendered(chart, wrong)
            except helm.HelmError:
                continue
            demand(False, f"the chart takes {wrong}")
        everything = rendered(chart, {**production, **ALL})
        # As it is packed, with what is linked here in it.
        with helm.Chart.load(chart.save(work)) as packed:
            same(rendered(packed, dev), work, "base")
            same(rendered(packed, production, namespace="rookery"), work, "production")
    known = [o for o in everything if "." not in o["apiVersion"].split("/")[0] or ".k8s.io/" in o["apiVersion"]]
    with open(f"{work}/chart.known.yaml", "w") as file:
        yaml.safe_dump_all(known, file)
    demand(len(known) > 8, f"only {len(known)} manifests")
    print(f"the chart makes what kustomize does, of base with and without traces, and of production, by Helm {helm.helm_sdk_version()}")


main()
