"""Which releases of the programs that load our files load them, and are right: each release installed by itself."""
