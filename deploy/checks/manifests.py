"""What no schema knows of the manifests: how they fit each other, the settings, and each other's names.

    manifests.py WORK OVERLAY…

Each overlay is WORK/<overlay>.yaml, as kustomize makes it. Writes what later steps need into WORK.
"""

import json
import sys

import yaml

CRD_GROUPS = ("cert-manager.io", "monitoring.coreos.com")


def demand(holds, what):
    if not holds:
        sys.exit(f"manifests: {what}")


class Overlay:
    """The manifests of one overlay."""

    def __init__(self, work, name):
        self.name = name
        with open(f"{work}/{name}.yaml") as file:
            self.objects = [o for o in yaml.safe_load_all(file) if o]

    def all(self, kind):
        return [o for o in self.objects if o["kind"] == kind]

    def one(self, kind, name):
        found = [o for o in self.all(kind) if o["metadata"]["name"] == name]
        demand(len(found) == 1, f"{self.name}: there are {len(found)} {kind} {name}, not one")
        return found[0]

    def demand(self, holds, what):
        demand(holds, f"{self.name}: {what}")

    def check(self):
        stateful = self.one("StatefulSet", "rookery")["spec"]
        pod = stateful["template"]["spec"]
        labels = stateful["template"]["metadata"]["labels"]
        container = pod["containers"][0]
        ports = {port["name"]: port for port in container["ports"]}

        def fits(selector, what):
            self.demand(selector and selector.items() <= labels.items(), f"the selector of {what} does not fit the pods")

        fits(stateful["selector"]["matchLabels"], "the StatefulSet")
        for service in self.all("Service"):
            fits(service["spec"]["selector"], f"Service {service['metadata']['name']}")
            for port in service["spec"]["ports"]:
                target = ports.get(port["targetPort"])
                self.demand(target is not None, f"no container port is named {port['targetPort']}")
                self.demand(
                    (target["containerPort"], target.get("protocol", "TCP")) == (port["port"], port.get("protocol", "TCP")),
                    f"Service port {port['name']} is not that of the container",
                )
        for budget in self.all("PodDisruptionBudget"):
            fits(budget["spec"]["selector"]["matchLabels"], "the PodDisruptionBudget")

        headless = self.one("Service", "rookery")["spec"]
        self.demand(stateful["serviceName"] == "rookery", "serviceName is not the headless Service's name")
        self.demand(stateful["podManagementPolicy"] == "Parallel", "not Parallel: the nodes would wait for each other")
        self.demand(headless["publishNotReadyAddresses"] is True, "publishNotReadyAddresses must be true")
        self.demand(headless["clusterIP"] == "None", "the Service must be headless")
        udp = [port["name"] for port in headless["ports"] if port["protocol"] == "UDP"]
        self.demand(udp == ["rookery"], "SRV _rookery._udp needs the UDP port named rookery, and no other")
        clients = self.one("Service", "rookery-client")["spec"]
        self.demand(clients["clusterIP"] == "None", "clients must get pods' addresses, not one of a Service")
        self.demand(not clients.get("publishNotReadyAddresses"), "clients must get ready pods alone")

        for probe, path in [("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
            get = container[probe]["httpGet"]
            self.demand((get["path"], get["port"]) == (path, "admin"), f"{probe} does not ask {path} of port admin")
            # The node itself gives up after two seconds, and says so.
            self.demand(container[probe]["timeoutSeconds"] > 2, f"{probe} gives up before the node tells why")

        self.check_security(pod, container)
        self.check_policy(labels, ports)
        for monitor in self.all("ServiceMonitor"):
            self.check_monitor(monitor, ports)
        for scaler in self.all("HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            self.demand((target["kind"], target["name"]) == ("StatefulSet", "rookery"), "it scales something else")
            self.demand("replicas" not in stateful, "replicas stand in the manifest, and an autoscaler sets them")
        secrets = {c["spec"]["secretName"] for c in self.all("Certificate")}
        mounted = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
        self.demand(not secrets or mounted <= secrets, f"no Certificate makes the Secret {mounted}")
        return pod

    def check_security(self, pod, container):
        self.demand(pod["automountServiceAccountToken"] is False, "a token is mounted")
        account = self.one("ServiceAccount", pod["serviceAccountName"])
        self.demand(account["automountServiceAccountToken"] is False, "the ServiceAccount mounts its token")
        security = container["securityContext"]
        self.demand(
            pod["securityContext"]["runAsNonRoot"]
            and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
            and security["readOnlyRootFilesystem"]
            and security["allowPrivilegeEscalation"] is False
            and security["capabilities"]["drop"] == ["ALL"],
            "not what the restricted Pod Security Standard asks for",
        )

    def check_policy(self, labels, ports):
        policy = self.one("NetworkPolicy", "rookery")["spec"]
        self.demand(policy["podSelector"]["matchLabels"].items() <= labels.items(), "the policy is for other pods")
        named = {(port["port"], port["protocol"]) for rule in policy["ingress"] for port in rule["ports"]}
        self.demand(named == {("rookery", "UDP"), ("admin", "TCP")}, f"the policy lets in {named}")
        out = {(port["port"], port["protocol"]) for rule in policy["egress"] for port in rule["ports"]}
        wanted = {(ports["rookery"]["containerPort"], "UDP"), (53, "UDP"), (53, "TCP")}
        if self.name == "traces":
            wanted.add((4318, "TCP"))
        self.demand(out == wanted, f"the policy lets out {out}")
        self.demand(all(rule.get("from") for rule in policy["ingress"]), "the policy lets in everybody")

    def check_monitor(self, monitor, ports):
        selector = monitor["spec"]["selector"]["matchLabels"]
        chosen = [s for s in self.all("Service") if selector.items() <= s["metadata"].get("labels", {}).items()]
        self.demand(len(chosen) == 1, f"the ServiceMonitor chooses {len(chosen)} Services: each pod is to be asked once")
        names = {port["name"] for port in chosen[0]["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            self.demand(endpoint["port"] in names and endpoint["port"] in ports, f"no port {endpoint['port']}")


def main():
    work, overlays = sys.argv[1], sys.argv[2:]
    custom = []
    for name in overlays:
        overlay = Overlay(work, name)
        pod = overlay.check()
        known = [o for o in overlay.objects if not o["apiVersion"].startswith(CRD_GROUPS)]
        custom += [o for o in overlay.objects if o["apiVersion"].startswith(CRD_GROUPS)]
        with open(f"{work}/{name}.known.yaml", "w") as file:
            yaml.safe_dump_all(known, file)
        config = overlay.one("ConfigMap", "rookery")["data"]["rookery.toml"]
        with open(f"{work}/{name}.toml", "w") as file:
            file.write(config)
        env = {e["name"]: e["value"] for e in pod["containers"][0]["env"] if "value" in e}
        facts = {
            "grace_ms": 1000 * pod["terminationGracePeriodSeconds"],
            "env": env,
            "ports": {p["name"]: p["containerPort"] for p in pod["containers"][0]["ports"]},
        }
        with open(f"{work}/{name}.json", "w") as file:
            json.dump(facts, file)
        print(f"{name}: {len(overlay.objects)} manifests fit each other")
    with open(f"{work}/custom.json", "w") as file:
        json.dump(custom, file)


main()
