"""The formats in which clients ask for a model's answer: one module for each door."""
