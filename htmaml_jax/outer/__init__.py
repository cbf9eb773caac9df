"""Meta-gradients, losses, augmentations."""
