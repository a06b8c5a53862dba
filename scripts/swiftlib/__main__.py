"""``scripts/swift-cluster``: start, stop, kill and restart nodes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .cluster import NODES, Cluster

ROOT = Path(__file__).resolve().parents[2]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/swift-cluster", description="Four OpenStack Swift nodes on the loopback, three replicas, spoken to as S3."
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".swift-cluster", help="where the cluster lives")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="start it, empty; prints the network URL and the environment it needs")
    start.add_argument("--owner", type=int, metavar="PID", help="end it when this process ends")
    commands.add_parser("stop", help="end all its processes and remove its data")
    commands.add_parser("status", help="say which nodes run")
    for name, words in (("kill-node", "kill all servers of nodes"), ("start-node", "start them again, with their data")):
        commands.add_parser(name, help=words).add_argument(
            "nodes", nargs="+", type=int, choices=NODES, metavar="N", help="1 to 4"
        )
    return parser.parse_args()


def main() -> None:
    options = parse()
    cluster = Cluster(options.folder)
    if options.command == "start":
        cluster.start(options.owner)
        print(cluster.url)
        print("".join(f"export {name}={value}\n" for name, value in cluster.environment.items()), end="")
    elif options.command == "stop":
        cluster.stop()
    elif options.command == "status":
        print(cluster.status(), end="")
    elif options.command == "kill-node":
        cluster.kill_nodes(options.nodes)
    else:
        cluster.start_nodes(options.nodes)


try:
    main()
except RuntimeError as error:
    sys.exit(f"swift-cluster: {error}")
