"""The verifier's own test: a catalogue of faults, planted one at a time in good variants. Each must be caught."""
