"""Alerts, dashboard and autoscaler: every name in them is one that METRICS.md has, and every expression is PromQL.

    monitoring.py WORK [PROMTOOL]

WORK/production.yaml is what kustomize makes. Leaves WORK/rules.yaml, and WORK/exprs.json: the dashboard's expressions, for a run.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import yaml

METRIC = re.compile(r"\b(?:rookery|process)_[a-z_]+\b")
# What a panel's expression has where Grafana puts something.
FILLED = {"$__rate_interval": "1m", "$namespace": ".*", "$job": ".*", "$instance": ".*"}


def demand(holds, what):
    if not holds:
        sys.exit(f"monitoring: {what}")


def documented():
    """Name to (kind, labels), of METRICS.md's table."""
    metrics = {}
    with open("METRICS.md") as file:
        for line in file:
            if line.startswith("| `"):
                name, kind, labels, _ = (cell.strip() for cell in line.strip().strip("|").split("|", 3))
                metrics[name.strip("`")] = (kind, set(re.findall(r"`([a-z]+)`", labels)))
    demand(len(metrics) > 30, "METRICS.md has no table")
    return metrics


# What Prometheus adds to each, and what is no label in a selector's or a grouping's place.
TARGET_LABELS = {"namespace", "job", "instance", "le"}


def check_expr(expr, metrics, where):
    names = set(METRIC.findall(expr))
    demand(names, f"{where}: no metric in `{expr}`")
    labels = set()
    for name in names:
        histogram = re.sub(r"_(bucket|sum|count)$", "", name)
        base = name if name in metrics else histogram
        demand(base in metrics, f"{where}: METRICS.md has no {name}")
        kind, own = metrics[base]
        demand((kind == "histogram") == (base != name), f"{where}: {name} is not how a {kind} is asked for")
        counted = re.search(rf"(rate|increase)\({name}\b", expr)
        demand(bool(counted) == (kind != "gauge"), f"{where}: {name}, a {kind}, {'needs no' if counted else 'needs'} rate")
        labels |= own
    for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr) + re.findall(r"\{([^}]*)\}", expr):
        for label in re.findall(r"\b([a-z_]+)\b\s*(?:=|!=|=~|!~|,|$)", re.sub(r'"[^"]*"', "", group)):
            demand(label in labels | TARGET_LABELS, f"{where}: none of {sorted(names)} has label {label}")


def check_runbook(alerts):
    """Each alert has its part, each part its alert; links lead somewhere; what the log is said to say is in the code."""
    with open("RUNBOOK.md") as file:
        text = file.read()
    parts = set(re.findall(r"^### (Rookery\w+)$", text, re.MULTILINE))
    demand(parts == alerts, f"RUNBOOK.md and the alerts differ: {sorted(parts ^ alerts)}")
    anchors = {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    demand(links <= anchors, f"RUNBOOK.md: links that lead nowhere: {sorted(links - anchors)}")
    code = []
    for folder in ("../node", "../client"):
        for path, _, files in os.walk(folder):
            for name in files:
                if name.endswith(".rs"):
                    with open(os.path.join(path, name)) as file:
                        code.append(file.read())
    code = "\n".join(code)
    told = [message for part in re.findall(r"Log:((?:[^.]|\.\w)*)", text) for message in re.findall(r"`([^`]+)`", part)]
    demand(len(told) > 10, "RUNBOOK.md quotes no log")
    for message in told:
        demand(f'"{message}"' in code, f"RUNBOOK.md: no log says `{message}`")


def run(promtool, *arguments):
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
    demand(done.returncode == 0, f"promtool {' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def main():
    work = sys.argv[1]
    promtool = sys.argv[2] if len(sys.argv) > 2 else None
    metrics = documented()
    with open(f"{work}/production.yaml") as file:
        objects = list(yaml.safe_load_all(file))

    rules = [o for o in objects if o["kind"] == "PrometheusRule"]
    demand(rules, "there are no alerts")
    groups = [group for rule in rules for group in rule["spec"]["groups"]]
    alerts = [rule for group in groups for rule in group["rules"]]
    for alert in alerts:
        check_expr(alert["expr"], metrics, f"alert {alert['alert']}")
        demand({"summary", "description"} <= alert["annotations"].keys(), f"alert {alert['alert']} does not say what to do")
        page, _, anchor = alert["annotations"].get("runbook_url", "").rpartition("#")
        demand(page.endswith("/deploy/RUNBOOK.md") and anchor == alert["alert"].lower(), f"alert {alert['alert']} leads to no runbook")
    check_runbook({alert["alert"] for alert in alerts})
    with open(f"{work}/rules.yaml", "w") as file:
        yaml.safe_dump({"groups": groups}, file)

    dashboards = [o for o in objects if o["kind"] == "ConfigMap" and "grafana_dashboard" in o["metadata"].get("labels", {})]
    demand(dashboards, "there is no dashboard that Grafana's sidecar finds")
    panels = [p for d in dashboards for text in d["data"].values() for p in json.loads(text)["panels"] if p["type"] != "row"]
    demand(len({p["id"] for p in panels}) == len(panels) > 20, "panels without ids of their own")
    exprs = {}
    for panel in panels:
        for number, target in enumerate(panel["targets"]):
            check_expr(target["expr"], metrics, f"panel {panel['title']}")
            expr = target["expr"]
            for name, value in FILLED.items():
                expr = expr.replace(name, value)
            demand("$" not in expr, f"panel {panel['title']}: an unknown variable in `{expr}`")
            exprs[f"{panel['title']} {number}"] = expr
    with open(f"{work}/exprs.json", "w") as file:
        json.dump(exprs, file)

    for scaler in (o for o in objects if o["kind"] == "HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            name = metric["pods"]["metric"]["name"]
            # As the Prometheus adapter calls the rate of a counter of seconds.
            demand(f"{name}_seconds_total" in metrics, f"the autoscaler's {name} is the rate of no metric")

    if promtool is None or shutil.which(promtool) is None:
        print("SKIPPED: PromQL and alerts are not tried: there is no promtool (Debian: prometheus)", file=sys.stderr)
    else:
        run(promtool, "check", "rules", f"{work}/rules.yaml")
        # Each expression as a rule: promtool judges those.
        recorded = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(exprs.values())]
        with open(f"{work}/panels.yaml", "w") as file:
            yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}, file)
        run(promtool, "check", "rules", f"{work}/panels.yaml")
        shutil.copy("components/monitoring/alerts.test.yaml", f"{work}/alerts.test.yaml")
        run(promtool, "test", "rules", f"{work}/alerts.test.yaml")
    print(f"{len(alerts)} alerts and {len(exprs)} expressions of the dashboard name what METRICS.md has")


main()
