"""What is raised by readers of files whose bytes are cut off or flipped."""

from __future__ import annotations

import tokenize
import zipfile
import zlib

# numpy's and zipfile's, of an .npz: found by flipping bytes; NotImplementedError (an unknown compression) is a RuntimeError
DAMAGED_NPZ = (zipfile.BadZipFile, zlib.error, tokenize.TokenError, EOFError, KeyError, ValueError, AttributeError, RuntimeError, OSError)
