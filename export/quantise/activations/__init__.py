"""Activations in 8 bits: which scale each has, what is moved from them into weights, and how graphs round them."""
