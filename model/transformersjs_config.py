"""Tell Transformers.js by config.json which variant a device gets, and which graphs have external data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FILE = "config.json"
SECTION, DATA = "transformers.js_config", "use_external_data_format"


def with_defaults(config: Mapping[str, Any], defaults: Mapping[str, str]) -> dict[str, Any]:
    """The config, telling Transformers.js which variant to load on a device where its user names none."""
    devices = {device: {"dtype": variant} for device, variant in defaults.items()}
    return _with(config, {"device_config": devices}) if devices else dict(config)


def with_data(config: Mapping[str, Any], graph: str, *, beside: bool) -> dict[str, Any]:
    """The config of a directory with one graph, telling whether that has external data, and of no other graph."""
    return _with(config, {**_others(config), **({DATA: {graph: True}} if beside else {})})


def merged(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first config, telling of every graph that one of them tells of: they lie in one directory then."""
    told = {graph: how for config in configs for graph, how in config.get(SECTION, {}).get(DATA, {}).items()}
    return _with(configs[0], {**_others(configs[0]), **({DATA: told} if told else {})})


def without_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as all variants of a model have it."""
    return _with(config, _others(config))


def asked(section: Mapping[str, Any], graph: str) -> int:
    """Return how many data files Transformers.js fetches with a graph, by its `resolveExternalDataFormat`."""
    told = section.get(DATA)
    if isinstance(told, Mapping):
        told = told.get(graph, told.get(graph.partition("_")[0].removesuffix(".onnx")))
    return int(told) if isinstance(told, int) else 0


def _others(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.get(SECTION, {}).items() if key != DATA}


def _with(config: Mapping[str, Any], section: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in config.items() if key != SECTION}
    return {**rest, SECTION: dict(section)} if section else rest
