"""Decide about notifications: which are due, when they are sent, what they say, and how services show them."""
