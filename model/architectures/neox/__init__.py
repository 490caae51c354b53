"""GPT-NeoX, of which Pythia is one: part of each head is turned, attention and feed-forward run side by side.

In the parts that model/architecture.py states; rotation is Llama's, activations are GPT-2's.
"""

MODEL_TYPES = ("gpt_neox",)
