"""A cluster of four OpenStack Swift nodes on the loopback; started by ``scripts/swift-cluster``.

Runs in an environment of its own, with Swift and nothing of this project.
"""
