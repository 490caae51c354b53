"""Hold what is judged: the graph in a session, its parts, and the files beside it."""
