"""Numbers to codes and back: blocks, scales, NF4. Arrays in, arrays out; nothing here knows a graph."""
