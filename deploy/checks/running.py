"""Three nodes run with the ConfigMap's settings and with certificates made by the specs of the manifests' Certificates, and are asked
what Kubernetes and Prometheus will ask them.

    running.py WORK BINARY [PROMTOOL PROMETHEUS]

Everything is on the loopback. Ends only what it has started.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus_text

PATIENCE = 30  # seconds
SCRAPES = 12  # seconds, at one scrape a second
USAGES = {"server auth": "serverAuth", "client auth": "clientAuth"}
# Panels of what does not happen among three nodes that are well.
QUIET = {"Children started again 0", "Handshakes refused 0", "Dials and handshakes that came to nothing 0"}


def demand(holds, what):
    if not holds:
        sys.exit(f"running: {what}")


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"running: waited {PATIENCE} s in vain until {what}")


def get(url, accept="*/*"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    demand(done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr}")


def certificates(work):
    """Makes what cert-manager would, of the Certificates of production.yaml; gives the folder of each Secret."""
    with open(f"{work}/production.yaml") as file:
        specs = [o["spec"] for o in yaml.safe_load_all(file) if o["kind"] == "Certificate"]
    ca = next(spec for spec in specs if spec.get("isCA"))
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", f"{work}/ca.key", "-out", f"{work}/ca.crt", "-days", "30",
            "-subj", f"/CN={ca['commonName']}", "-addext", "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign")
    folders = {}
    for spec in specs:
        if spec.get("isCA"):
            continue
        folder = folders[spec["secretName"]] = f"{work}/secret-{spec['secretName']}"
        os.makedirs(folder)
        sans = [f"DNS:{name}" for name in spec.get("dnsNames", [])] + [f"URI:{uri}" for uri in spec["uris"]]
        usages = ",".join(USAGES[usage] for usage in spec["usages"] if usage in USAGES)
        with open(f"{folder}/extensions", "w") as file:
            # cert-manager makes the subject empty, and so the names critical.
            file.write(f"subjectAltName=critical,{','.join(sans)}\nkeyUsage=critical,digitalSignature\n"
                       f"extendedKeyUsage={usages}\nbasicConstraints=critical,CA:FALSE\n")
        openssl("req", *key, "-keyout", f"{folder}/tls.key", "-out", f"{folder}/csr", "-subj", "/")
        openssl("x509", "-req", "-in", f"{folder}/csr", "-CA", f"{work}/ca.crt", "-CAkey", f"{work}/ca.key", "-CAcreateserial",
                "-days", "20", "-extfile", f"{folder}/extensions", "-out", f"{folder}/tls.crt")
        shutil.copy(f"{work}/ca.crt", f"{folder}/ca.crt")
    return folders


def check_settings(work, binary, identity, overlay):
    """Has the binary judge the ConfigMap's settings, as in a pod."""
    with open(f"{work}/{overlay}.json") as file:
        facts = json.load(file)
    env = {**facts["env"], "ROOKERY_NAME": "rookery-2", "ROOKERY_IDENTITY": identity}
    command = [binary, "config", "check", "--json", "--config", f"{work}/{overlay}.toml"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    demand(done.returncode == 0, f"{overlay}: {done.stdout}{done.stderr}")
    settings = {name: option["value"] for name, option in json.loads(done.stdout)["settings"].items()}
    drain_ms, grace_ms = settings["drain_timeout_ms"], facts["grace_ms"]
    demand(drain_ms < grace_ms, f"{overlay}: drain_timeout_ms {drain_ms} is no less than {grace_ms} ms, the grace period")
    for option, port in [("listen", "rookery"), ("admin", "admin")]:
        demand(settings[option].endswith(f":{facts['ports'][port]}"), f"{overlay}: {option} is not the container's port {port}")
        demand(not settings[option].startswith("127."), f"{overlay}: {option} is out of reach of others")
    print(f"{overlay}: the settings are right; a drain takes at most {drain_ms} ms of {grace_ms} ms")


def check_compose(work, binary):
    """Makes the certificates as compose.yaml has it, twice, and has the binary judge each node's settings there."""
    with open("compose.yaml") as file:
        services = yaml.safe_load(file)["services"]
    identities = f"{work}/compose"

    def here(text):
        return text.replace("/etc/rookery/identity", identities)

    def made(name, done):
        for before in services[name].get("depends_on", {}):
            made(before, done)
        if services[name]["command"][0] == "certs" and name not in done:
            done.append(name)
            run = subprocess.run([binary, *map(here, services[name]["command"])], env={}, capture_output=True, text=True)
            demand(run.returncode == 0, f"compose.yaml: {name}: {run.stdout}{run.stderr}")
        return done

    nodes = [name for name, service in services.items() if service.get("command") == ["start"]]
    for _ in range(2):
        order = []
        for name in nodes:
            made(name, order)
    for name in nodes:
        env = {key: here(value) for key, value in services[name]["environment"].items()}
        done = subprocess.run([binary, "config", "check"], env=env, capture_output=True, text=True)
        demand(done.returncode == 0 and env["ROOKERY_NAME"] == name, f"compose.yaml: {name}: {done.stdout}{done.stderr}")
        demand(set(env["ROOKERY_PEERS"].split(",")) == set(nodes), f"compose.yaml: the peers of {name} are not the nodes")
    client = here(services["client"]["environment"]["ROOKERY_IDENTITY"])
    demand(os.path.exists(f"{client}/cert.pem"), "compose.yaml: the client's certificate is not made")
    print(f"compose.yaml: {len(order)} steps make certificates that its {len(nodes)} nodes can start with")


class Cluster:
    """Programs that run, which end with it."""

    def __init__(self, work):
        self.work = work
        self.programs = []

    def start(self, name, command, env=None):
        with open(f"{self.work}/{name}.log", "w") as log:
            self.programs.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def log(self, name):
        with open(f"{self.work}/{name}.log") as file:
            return file.read()

    def said(self, name, message, field):
        """What a node has logged in JSON."""
        for line in self.log(name).splitlines():
            if f'"{message}"' in line and (found := re.search(rf'"{field}":"([^"]+)"', line)):
                return found.group(1)
        return None

    def end(self):
        for program in self.programs:
            program.terminate()
        for program in self.programs:
            try:
                program.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                program.kill()


def start_nodes(cluster, work, binary, identity):
    """The addresses of three nodes: for nodes and clients, and for the admin port."""
    nodes = []
    for number in range(3):
        name = f"rookery-{number}"
        flags = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        flags += [flag for address, _ in nodes for flag in ("--peers", address)]
        env = {"ROOKERY_NAME": name, "ROOKERY_IDENTITY": identity}
        cluster.start(name, [binary, "start", "--config", f"{work}/production.toml", *flags], env)
        address = until(f"{name} listens", lambda: cluster.said(name, "node started", "listen"))
        nodes.append((address, until(f"{name} has an admin port", lambda: cluster.said(name, "admin port open", "address"))))
    return nodes


def check_runbook(binary, connect, identity):
    """Runs what RUNBOOK.md says with `rk`: in its code, and in its text."""
    with open("RUNBOOK.md") as file:
        text = file.read()
    lines = re.findall(r"^rk ([^#\n]+)", text, re.MULTILINE) + re.findall(r"`rk ([^`…]+)`", text)
    commands = sorted({tuple(shlex.split(line)) for line in lines})
    demand(len(commands) > 8, "RUNBOOK.md has no commands")
    for command in commands:
        # It waits for the end of a process: that there is such a command must do.
        command = ("help", "monitor") if command[0] == "monitor" else (*command, "--connect", connect, "--identity", identity)
        done = subprocess.run([binary, *command], env={}, capture_output=True, text=True, timeout=PATIENCE)
        demand(done.returncode == 0 and done.stdout, f"RUNBOOK.md: rk {' '.join(command)}: {done.stdout}{done.stderr}")
    print(f"RUNBOOK.md: {len(commands)} commands work as the client of a node")


def check_exposition(admin, promtool):
    status, text = get(f"http://{admin}/metrics")
    demand(status == 200, "no metrics")
    plain = {family.name for family in prometheus_text(text) if family.samples}
    _, text_open = get(f"http://{admin}/metrics", "application/openmetrics-text; version=1.0.0")
    opened = {family.name for family in openmetrics(text_open) if family.samples}
    demand(plain == opened and len(plain) > 30, f"the two formats differ: {plain ^ opened}")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        demand(done.returncode == 0, f"promtool check metrics:\n{done.stdout}{done.stderr}")
    return len(plain)


def run_prometheus(cluster, work, nodes, prometheus):
    """A real Prometheus asks the nodes, with our alerts; each of the dashboard's expressions is tried on it."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{
            "job_name": "rookery",
            "static_configs": [{"targets": [admin for _, admin in nodes], "labels": {"namespace": "check"}}],
        }],
    }
    with open(f"{work}/prometheus.yaml", "w") as file:
        yaml.safe_dump(config, file)
    cluster.start("prometheus", [prometheus, f"--config.file={work}/prometheus.yaml", f"--storage.tsdb.path={work}/tsdb",
                                 "--web.listen-address=127.0.0.1:0"])
    found = until("Prometheus listens", lambda: re.search(r"address=(127\.0\.0\.1:[1-9]\d*)", cluster.log("prometheus")))
    api = f"http://{found.group(1)}/api/v1"

    def query(expr):
        status, text = get(f"{api}/query?query={urllib.parse.quote(expr)}")
        demand(status == 200, f"`{expr}`: {text}")
        return json.loads(text)["data"]["result"]

    def scraped():
        status, _ = get(f"{api}/status/buildinfo")
        return status == 200 and len(query(f"count_over_time(up[1m]) > {SCRAPES} and min_over_time(up[1m]) == 1")) == len(nodes)

    until("Prometheus has asked each node, and had an answer each time", scraped)
    with open(f"{work}/exprs.json") as file:
        exprs = json.load(file)
    empty = {name for name, expr in exprs.items() if not query(expr)}
    demand(empty <= QUIET, f"panels that stay empty: {sorted(empty - QUIET)}")
    rules = json.loads(get(f"{api}/rules")[1])["data"]["groups"]
    bad = [rule["name"] for group in rules for rule in group["rules"] if rule["health"] != "ok" or rule["state"] != "inactive"]
    demand(rules and not bad, f"alerts that cannot be told, or are raised by a cluster that is well: {bad}")
    print(f"Prometheus has asked 3 nodes; {len(exprs) - len(empty)} of {len(exprs)} expressions have values, and no alert is raised")


def main():
    work, binary = sys.argv[1], os.path.realpath(sys.argv[2])
    promtool, prometheus = (sys.argv[3:] + [None, None])[:2]
    folders = certificates(work)
    identity = folders["rookery-identity"]
    for overlay in ("base", "dev", "production"):
        check_settings(work, binary, identity, overlay)
    check_compose(work, binary)
    cluster = Cluster(work)
    try:
        nodes = start_nodes(cluster, work, binary, identity)
        for _, admin in nodes:
            for path in ("startupz", "livez", "readyz"):
                until(f"/{path} is well", lambda: get(f"http://{admin}/{path}")[0] == 200)
        until("the mesh is whole", lambda: all("\nrookery_peers 2\n" in get(f"http://{admin}/metrics")[1] for _, admin in nodes))
        # The client's certificate is taken, too.
        command = [binary, "nodes", "--json", "--connect", nodes[0][0], "--identity", folders["rookery-client"]]
        done = subprocess.run(command, env={}, capture_output=True, text=True)
        demand(done.returncode == 0 and "rookery-2" in done.stdout, f"a client: {done.stdout}{done.stderr}")
        check_runbook(binary, nodes[0][0], folders["rookery-client"])
        count = check_exposition(nodes[0][1], promtool)
        print(f"3 nodes with certificates by the manifests are ready; {count} metrics are read by Prometheus' own parsers")
        if prometheus:
            run_prometheus(cluster, work, nodes, prometheus)
        else:
            print("SKIPPED: no Prometheus asks the nodes: there is none (Debian: prometheus)", file=sys.stderr)
    finally:
        cluster.end()


main()
