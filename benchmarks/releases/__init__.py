"""Find which releases of the programs that load our files load them, and are right: each is installed by itself."""
