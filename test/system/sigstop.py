# SPDX-License-Identifier: MIT
"""SIGSTOP of each node during a copy: no error, stalls under 5 s, nothing lost; SIGCONT heals."""
import cluster
import failover


def test():
    failover.test(disturb=lambda demo, node: demo.kill(node, "STOP"),
                  restore=lambda demo, node: demo.kill(node, "CONT"), longest_allowed=5.0)


cluster.main(test)
