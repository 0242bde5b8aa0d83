"""A Ray cluster in a process of its own: a head that does no work and two machines with one CPU each.

It prints its address, takes one machine away for each line that it reads, and ends when there is nothing left to read.
"""

import sys

from ray.cluster_utils import Cluster

STORE = 100 << 20

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
machines = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
print("address", cluster.address, flush=True)
for _ in sys.stdin:
    cluster.remove_node(machines.pop(), allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
