"""The image in containers: what it holds, and three nodes on a network of their own, with one DNS name as a headless Service has it.

    containers.py WORK IMAGE [foreign]

`try-image` runs it inside its engine's network. `foreign`: the binary is not static, so the image's size and its libraries are not judged.
Each container has what the StatefulSet says: a read-only root, user 65532, no capability, a limit of memory, the ConfigMap's settings.
"""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request

PATIENCE = 90  # seconds: far above what is needed, since only a failure waits for it
SIZE = 30 * 1000 * 1000  # bytes of the image, at most
DRAIN = 20  # seconds: drain_timeout_ms of the ConfigMap
NOTICED = 15  # seconds until a lost node is known; half a second where the others find its port closed, two where it is silent
NODES = ["rookery-0", "rookery-1", "rookery-2"]
NETWORK = "rookery-try"
# Only within the engine's own network namespace.
SUBNET = "172.30.77"
# Docker's DNS knows the containers and asks another server for all else, as for SRV records. One such is nobody, and so silent; the other
# refuses, so that no client waits, nor Docker for the query of a client that has ended.
SILENT_DNS = f"{SUBNET}.250"
REFUSING_DNS = f"{SUBNET}.1"
MEMORY = "256m"  # what the StatefulSet requests
TIGHT = "64m"
POLICY = """
[[client]]
name = "ops"
spawn = ["*"]
register = ["*"]
exit = true

[[supervisor]]
name = "shop"
cluster = true

[[supervisor.children]]
id = "prices"
behaviour = "kv"
cluster_name = "prices"
placement = "spread"
"""

here = os.path.dirname(os.path.abspath(__file__))
docker_program = os.environ.get("DOCKER", "docker")


def demand(holds, what):
    if not holds:
        sys.exit(f"containers: {what}")


def said(what, began):
    print(f"containers: {what}: {time.monotonic() - began:.1f} s", flush=True)


def until(what, condition, limit=PATIENCE):
    end = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        demand(time.monotonic() < end, f"waited {limit} s in vain until {what}")
        time.sleep(0.1)


def run(*arguments):
    return subprocess.run([docker_program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def docker(*arguments):
    done = run(*arguments)
    demand(done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def inspect(name, path):
    return json.loads(docker("inspect", "--format", "{{json " + path + "}}", name))


RESTRICTED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


class Cluster:
    """Nodes by their names, and the addresses that they have."""

    def __init__(self, work, image):
        self.image = image
        self.addresses = {}
        self.settings = f"{work}/rookery.toml"
        with open(f"{here}/../base/configmap.yaml") as file:
            lines = file.read().split("  rookery.toml: |\n")[1]
        with open(self.settings, "w") as file:
            file.write(textwrap.dedent(lines) + POLICY)
        os.chmod(self.settings, 0o644)
        docker("network", "create", "--subnet", f"{SUBNET}.0/24", NETWORK)
        for command in (["init", "--cluster", "shop"], ["issue", "node", "rookery-0", "--dns", "*.rookery"], ["issue", "client", "ops"]):
            self.once("certs", *command, "--dir", "/etc/rookery/identity", volumes=["identity:/etc/rookery/identity"])

    def once(self, *arguments, volumes=(), options=()):
        mounts = [part for volume in volumes for part in ("--volume", volume)]
        return docker("run", "--rm", *RESTRICTED, *mounts, *options, self.image, *arguments)

    def start(self, name, last, memory=MEMORY):
        self.addresses[name] = f"{SUBNET}.{last}"
        docker(
            "run", "--detach", "--name", name, "--hostname", name, *RESTRICTED, "--memory", memory, "--memory-swap", memory,
            "--pids-limit", "256", "--network", NETWORK, "--network-alias", "rookery", "--ip", self.addresses[name],
            "--dns", SILENT_DNS,
            "--env", f"ROOKERY_NAME={name}", "--env", "ROOKERY_SERVICE=rookery",
            "--env", "ROOKERY_IDENTITY=/etc/rookery/identity/rookery-0",
            "--volume", "identity:/etc/rookery/identity:ro", "--volume", f"{self.settings}:/etc/rookery/rookery.toml:ro",
            self.image, "start", "--config", "/etc/rookery/rookery.toml",
        )

    def client(self, *arguments, connect="rookery", dns=REFUSING_DNS):
        """A command of a client, in a container of its own. Gives what it answers, or nothing and why."""
        done = run(
            "run", "--rm", *RESTRICTED, "--memory", MEMORY, "--network", NETWORK, "--dns", dns, "--env", f"ROOKERY_CONNECT={connect}",
            "--env", "ROOKERY_IDENTITY=/etc/rookery/identity/ops", "--volume", "identity:/etc/rookery/identity:ro",
            self.image, *arguments, "--json",
        )
        try:
            return (json.loads(done.stdout) if done.returncode == 0 else None), done.stderr
        except ValueError:
            return None, done.stdout + done.stderr

    def ask(self, *arguments, connect="rookery"):
        answer, why = self.client(*arguments, connect=connect)
        demand(not why, f"rookery {' '.join(arguments)}: {why}")
        return answer

    def probe(self, name, path):
        with contextlib.suppress(OSError):
            try:
                with urllib.request.urlopen(f"http://{self.addresses[name]}:9470{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
        return 0, ""

    def peers(self, name):
        """Whom this node is connected with, by its metrics."""
        metrics = self.probe(name, "/metrics")[1].splitlines()
        return next((int(float(line.split()[1])) for line in metrics if line.startswith("rookery_peers ")), None)

    def meshed(self, names=NODES):
        return all(self.peers(name) == len(names) - 1 and self.probe(name, "/readyz")[0] == 200 for name in names)

    def log(self, name):
        done = run("logs", name)
        return done.stdout + done.stderr


def contents(cluster, foreign):
    """What the image says of itself, and that nothing is in it but what is known."""
    config = inspect(cluster.image, ".Config")
    demand(config["User"] == "65532:65532", f"the image's user is {config['User']}")
    labels = config["Labels"]
    for label in ("title", "description", "licenses", "source", "version", "revision"):
        demand(labels.get(f"org.opencontainers.image.{label}"), f"there is no label {label}")
    version = cluster.once("--version").split()[-1]
    demand(labels["org.opencontainers.image.version"] == version, f"the label says {labels}, the program {version}")
    box = docker("create", cluster.image)
    files = subprocess.run([docker_program, "export", box], capture_output=True, check=True).stdout
    listed = subprocess.run(["tar", "-t"], input=files, capture_output=True, check=True).stdout.decode().split()
    made_by_engine = ("dev/", "proc/", "sys/", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv")
    own = {file for file in listed if not file.startswith(made_by_engine) and not file.endswith("/")}
    known = {"rookery", "licenses/LICENSE-MIT", "licenses/LICENSE-APACHE", "sbom/rookery.cdx.json"}
    others = {file for file in own - known if not (foreign and file.startswith(("lib/", "lib64/")))}
    demand(known <= own and not others, f"the image holds {sorted(own)}")
    demand(run("run", "--rm", "--entrypoint", "/bin/sh", cluster.image, "-c", "true").returncode == 127, "there is a shell")
    bill = json.loads(subprocess.run(["tar", "-xO", "sbom/rookery.cdx.json"], input=files, capture_output=True, check=True).stdout)
    names = {component["name"] for component in bill["components"]}
    demand(bill["bomFormat"] == "CycloneDX" and {"quinn", "tokio", "rustls", "rookery-protocol"} <= names, "the bill of materials misses parts")
    demand("proptest" not in names, "the bill of materials has parts that are for tests alone")
    docker("rm", box)
    size = inspect(cluster.image, ".Size")
    print(f"containers: the image has {size:,} bytes, {len(names)} parts in its bill of materials", flush=True)
    if foreign:
        print("SKIPPED: the size of the image, and that its binary is static, are not judged: this binary is not", file=sys.stderr)
    else:
        demand(size < SIZE, f"the image has {size} bytes, and {SIZE} is the most")


def confined(name):
    """The kernel's word for what the container may."""
    with open(f"/proc/{inspect(name, '.State.Pid')}/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    demand(status["Uid"].split() == ["65532"] * 4, f"{name} runs as {status['Uid']}")
    demand(int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0, f"{name} has capabilities")
    demand(status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", f"{name} is not confined")
    demand(docker("diff", name) in ("", "C /etc\nC /etc/rookery\nA /etc/rookery/rookery.toml"), f"{name} has written: {docker('diff', name)}")


def find_each_other(cluster):
    began = time.monotonic()
    for number, name in enumerate(NODES):
        cluster.start(name, 10 + number)
    until("three nodes are ready and connected", cluster.meshed)
    said("three nodes have found each other by DNS, and are ready", began)
    for name in NODES:
        for path in ("/livez", "/readyz", "/startupz"):
            demand(cluster.probe(name, path)[0] == 200, f"{path} of {name}: {cluster.probe(name, path)}")
        confined(name)
        docker("exec", name, "/rookery", "config", "check", "--config", "/etc/rookery/rookery.toml")
    docker("exec", NODES[0], "/rookery", "doctor", "--config", "/etc/rookery/rookery.toml")
    # As RUNBOOK.md's `rk`.
    docker("exec", NODES[0], "/rookery", "nodes", "--connect", "127.0.0.1", "--identity", "/etc/rookery/identity/ops")
    for name in NODES:
        cluster.ask("call", f"counter@{name}", '{"Add":5}')
        demand(cluster.ask("call", f"counter@{name}", '{"Get":null}') == 5, f"counter of {name}")
    demand(cluster.client("nodes", dns=SILENT_DNS)[0], "a client finds nodes where DNS is silent about SRV records")


def set_price(cluster, value):
    cluster.ask("call", "prices", json.dumps({"Put": {"key": "tea", "value": value}}))


def price(cluster):
    found, _ = cluster.client("call", "prices", '{"Get":"tea"}')
    return found


def home_of(cluster, wanted):
    pid = next(entry["pid"] for entry in cluster.ask("names") if entry["name"] == wanted)
    return next(name for name in NODES if pid.startswith(f"<{name}."))


def drain(cluster):
    """`docker stop` is SIGTERM, and SIGKILL when the time is over."""
    set_price(cluster, 7)
    leaver = home_of(cluster, "prices")
    others = [name for name in NODES if name != leaver]
    began = time.time()
    docker("stop", "--time", "30", leaver)
    state = inspect(leaver, ".State")
    # Docker itself goes on for seconds, for what it asks of another DNS server.
    ended = datetime.datetime.fromisoformat(state["FinishedAt"][:19] + "+00:00").timestamp() + float("0" + state["FinishedAt"][19:].rstrip("Z"))
    print(f"containers: docker stop of {leaver}, where the prices are, until it has ended: {ended - began:.1f} s", flush=True)
    demand(ended - began < DRAIN, "a drain takes too long")
    demand(state["ExitCode"] == 0 and not state["OOMKilled"], f"{leaver} ended so: {state}")
    until("the others know", lambda: cluster.meshed(others), NOTICED)
    demand(price(cluster) == 7, f"the prices went with their node: {price(cluster)}")
    began = time.monotonic()
    docker("start", leaver)
    until("it is back", cluster.meshed)
    said("started again, until all are connected", began)


def kill_and_move(cluster):
    """As a pod that is lost and comes back under its name, elsewhere."""
    victim = NODES[1]
    others = [name for name in NODES if name != victim]
    began = time.monotonic()
    docker("kill", victim)
    until("the others know", lambda: all(cluster.peers(name) == 1 for name in others), NOTICED)
    said("SIGKILL, until both others know", began)
    demand(cluster.ask("nodes", connect=others[0]), "clients go on")
    docker("rm", victim)
    began = time.monotonic()
    cluster.start(victim, 99)
    until("it is back at another address", cluster.meshed)
    said("started anew at another address, until all are connected", began)
    seen = cluster.ask("nodes", connect=others[0])
    peers = next(node for node in seen if node["node"].startswith(f"{others[0]}."))["peers"]
    demand(f"{SUBNET}.99:4370" in json.dumps(peers), f"nobody knows its address: {peers}")


def cut(cluster):
    """The network of a running node is taken away, and given back with another address."""
    set_price(cluster, 8)
    # Not one that has the prices or their supervisor: a store is as mortal as its node, and as who looks after it.
    lost = [name for name in NODES if name not in (home_of(cluster, "prices"), home_of(cluster, "shop"))][-1]
    others = [name for name in NODES if name != lost]
    began = time.monotonic()
    docker("network", "disconnect", NETWORK, lost)
    until("the others know", lambda: all(cluster.peers(name) == 1 for name in others), NOTICED)
    said("network cut off, until both others know", began)
    demand(inspect(lost, ".State.Running"), f"{lost} has ended: {cluster.log(lost)[-2000:]}")
    cluster.addresses[lost] = f"{SUBNET}.77"
    began = time.monotonic()
    docker("network", "connect", "--alias", "rookery", "--ip", cluster.addresses[lost], NETWORK, lost)
    until("it is back", cluster.meshed)
    said("network given back with another address, until all are connected", began)
    # Both sides had a tree of the cluster meanwhile; the older one stays, and its children as they were.
    until("the prices are those from before the cut", lambda: price(cluster) == 8)


def tight(cluster):
    """A limit near what a node needs: it starts, works, and is not killed for it."""
    victim = NODES[0]
    docker("stop", "--time", "30", victim)
    docker("rm", victim)
    cluster.start(victim, 10, TIGHT)
    until(f"it is back with {TIGHT}", cluster.meshed)
    for _ in range(5):
        cluster.ask("call", f"counter@{victim}", '{"Add":1}', connect=victim)
    state = inspect(victim, ".State")
    demand(state["Running"] and not state["OOMKilled"], f"{victim} with {TIGHT}: {state}")
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", victim)
    print(f"containers: a node lives in {TIGHT}: {used}", flush=True)


def compose(image):
    """compose.yaml as its head says it."""
    program = os.environ.get("ROOKERY_COMPOSE")
    if program is None:
        print("SKIPPED: compose.yaml is not run: no Compose is to be had", file=sys.stderr)
        return
    demand(image == "rookery:dev", "compose.yaml is for rookery:dev")

    def composed(*arguments):
        done = subprocess.run([program, "-f", f"{here}/../compose.yaml", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        demand(done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    began = time.monotonic()
    composed("up", "--wait")

    def ready():
        with contextlib.suppress(OSError):
            for port in (9470, 9471, 9472):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                    pass
            return True
        return False

    until("compose.yaml's nodes are ready", ready)
    said("docker compose up, from nothing until three nodes are ready", began)
    composed("run", "--rm", "client", "call", "counter@shop-1", '{"Add":5}')
    demand(composed("run", "--rm", "client", "call", "counter@shop-1", '{"Get":null}') == "5", "compose.yaml's client")
    with urllib.request.urlopen("http://127.0.0.1:9470/dashboard/", timeout=5) as answer:
        demand(answer.status == 200, "the dashboard")
    composed("down", "--volumes", "--timeout", "30")


def main():
    work, image = sys.argv[1], sys.argv[2]
    foreign = sys.argv[3:] == ["foreign"]
    cluster = Cluster(work, image)
    try:
        contents(cluster, foreign)
        find_each_other(cluster)
        for trial in (drain, kill_and_move, cut, tight):
            trial(cluster)
    except BaseException:
        for name in NODES:
            print(f"---- {name}\n{cluster.log(name)[-4000:]}", file=sys.stderr)
        raise
    finally:
        run("rm", "--force", *NODES)
    compose(image)


main()
