"""Says before anything runs which modules are missing here, and which device will be used. Standard library alone.

python scripts/gpu/check.py
"""

import importlib
import importlib.util
import sys

# Module -> the package that brings it, where it is called otherwise.
_NEEDED = {
    "numpy": "",
    "pyarrow": "",
    "torch": "",
    "transformers": "",
    "tokenizers": "",
    "safetensors": "",
    "peft": "",
    "tensorboard": "",
    "onnx": "",
    "onnxscript": "",
    "onnxruntime": "",
    "rich": "",
    "typer": "",
    "google.protobuf": "protobuf",
    "rjieba": "",
    "snowballstemmer": "",
}


def main() -> None:
    """Exits with 1 where something is missing."""
    if missing := [package or module for module, package in _NEEDED.items() if not _there(module)]:
        sys.exit(f"missing here: {', '.join(missing)}; bring them as wheels, see scripts/gpu/README.md")
    # Generated code refuses a protobuf that is older than what made it.
    try:
        importlib.import_module("souk.types.v1.types_pb2")
    except Exception as error:
        sys.exit(f"protobuf: {error}; bring a newer one as a wheel, see scripts/gpu/README.md")
    torch = importlib.import_module("torch")
    cuda = torch.cuda.is_available()
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name(0) if cuda else 'the CPU: no CUDA device'}")


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # The package around it is missing.
        return False


if __name__ == "__main__":
    main()
