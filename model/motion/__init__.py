"""Motions: what a body does over time, apart from whose body it is. Made by formula, read from files, carried to other bodies."""
