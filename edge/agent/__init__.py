"""From what a box knows to a bounded price."""
