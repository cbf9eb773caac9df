"""Support set to task embedding."""
