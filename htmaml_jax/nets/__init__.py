"""Base networks and the layers that are fast under per-task weights."""
