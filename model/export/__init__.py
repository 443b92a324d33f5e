"""Avatars for other programs: formats as pure functions from arrays to bytes, and what has to be made for them first.

The stage. Everything that leaves stands in one world: y up, the floor at y = 0, metres, right-handed, the person around the
origin and facing +z at the start, their left side towards +x. It is the world of motions (model/motion/motion.py) and of
glTF. A format with other axes turns from there in its own writer, and says so.
"""
