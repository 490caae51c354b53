"""Find where the fault is: from a failed check to the smallest input that still fails and the node that causes it."""
