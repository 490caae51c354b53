"""One file per family of faults; a function with the decorator of `verify.faults.fault` is a fault of its name."""
