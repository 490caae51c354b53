"""Where tasks run, one file each; its name is its name on the command line."""
