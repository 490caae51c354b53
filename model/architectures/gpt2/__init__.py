"""GPT-2: `config` accepts or refuses, `standard` and `fused` make the two forms of the graph."""
