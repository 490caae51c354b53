"""Ask every program that loads the model the same questions, and compare what they answer."""
