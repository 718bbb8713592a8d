"""Tests of every kind; each folder of unit/ mirrors one of the code."""
