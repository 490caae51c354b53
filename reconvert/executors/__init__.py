"""Hold one file for each place where tasks run; its name is the one on the command line."""
