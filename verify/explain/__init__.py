"""Where is the fault? From a failed check to the smallest input that still fails and the node that causes it."""
