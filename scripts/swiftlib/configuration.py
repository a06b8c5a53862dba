"""The files Swift wants: cluster, servers, rings."""

from __future__ import annotations

import getpass
import secrets
from pathlib import Path

KINDS = ("account", "container", "object")
REGION = "us-east-1"
USER, PASSWORD = "test:tester", "testing"

CLUSTER = """[swift-hash]
swift_hash_path_prefix = {prefix}
swift_hash_path_suffix = {suffix}
[storage-policy:0]
name = three
default = yes
"""

STORAGE = """[DEFAULT]
bind_ip = 127.0.0.{node}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/node{node}
mount_check = false
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

# Long time-outs cost nothing here, for a server that was killed refuses at once, and help a machine that is busy.
# error_suppression_interval: a node that comes back is used at once, not after a minute.
PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors s3api tempauth proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 5
node_timeout = 30
error_suppression_interval = 0
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = {region}
allow_multipart_uploads = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {password} .admin
"""


def write(folder: Path, nodes: range, ports: dict[str, int]) -> None:
    """All files in ``folder``. ``ports``: of the proxy, and of each kind of server, the same on every node's address."""
    names = {"prefix": secrets.token_hex(8), "suffix": secrets.token_hex(8), "user": getpass.getuser(), "folder": str(folder)}
    (folder / "swift.conf").write_text(CLUSTER.format(**names))
    proxy = PROXY.format(port=ports["proxy"], region=REGION, password=PASSWORD, **names)
    (folder / "proxy.conf").write_text(proxy)
    for kind in KINDS:
        for node in nodes:
            (folder / f"node{node}" / f"d{node}").mkdir(parents=True, exist_ok=True)
            text = STORAGE.format(node=node, kind=kind, port=ports[kind], **names)
            (folder / f"{kind}{node}.conf").write_text(text)
        _ring(folder, kind, nodes, ports[kind])


def _ring(folder: Path, kind: str, nodes: range, port: int) -> None:
    """256 partitions, three replicas, each node a zone."""
    from swift.common.ring import RingBuilder  # late: only a start needs it, and it takes half a second

    builder = RingBuilder(part_power=8, replicas=3, min_part_hours=0)
    for node in nodes:
        place = {"region": 1, "zone": node, "ip": f"127.0.0.{node}", "port": port, "device": f"d{node}", "weight": 1.0}
        builder.add_dev({**place, "id": node - 1, "replication_ip": place["ip"], "replication_port": port, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{kind}.ring.gz"))
