# SPDX-License-Identifier: MIT
"""kill -9 of each node during a copy: no error, stalls under 1.5 s, nothing lost, heals itself."""
import cluster
import failover
import trees


def test():
    failover.test(disturb=lambda demo, node: demo.kill(node),
                  restore=lambda demo, node: demo.start(node), longest_allowed=1.5,
                  files=trees.FILES_MIN)


cluster.main(test)
