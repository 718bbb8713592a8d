"""Coldstart's offline part: readable topics of the content space."""
