"""Evaluators of one collection, by subject: each turns a snapshot and the state into signals."""
