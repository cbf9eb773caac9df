"""Mesh, compiled steps, checkpoints, logs: what touches a machine."""
