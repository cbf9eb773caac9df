"""Update rules and the inner loop."""
