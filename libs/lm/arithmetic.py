"""The modules that compute, which a server that sees nothing of Athanor's tree carries as copies.

They import torch, transformers, numpy, the standard library and one another, nothing else of ours.
Copied under these names into a folder on its path, they are imported there as here: `libs` and
`libs.lm` are namespace packages then.
"""

from pathlib import Path

_HERE = Path(__file__).parent
MODULES = ("detokenize", "digest", "forward", "generation", "prompts", "scoring", "states")
FILES = {f"libs/lm/{name}.py": _HERE / f"{name}.py" for name in MODULES}
"""Name in the folder to the file here."""
