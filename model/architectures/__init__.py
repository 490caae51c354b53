"""One folder per architecture (model/architecture.py); its name is the recipe's `architecture`."""

from pipeline import plugins

__path__ += [str(path) for path in plugins.elsewhere(plugins.ARCHITECTURES)]
