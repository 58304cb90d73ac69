"""Write the three graphs of the reference's RNN-T checkpoint: needs PyTorch to read it.

python -m pytest_mlperf.benchmarks.speech.export_rnnt CHECKPOINT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_mlperf.benchmarks.files import require_package
from pytest_mlperf.benchmarks.speech.transducer import Weights
from pytest_mlperf.benchmarks.speech.transducer import write_parts


def read_checkpoint(path: Path) -> Weights:
    """Return the weights by name.

    Raises ``ValueError`` for a file that is no checkpoint with a ``state_dict``.
    """
    consequence = "its checkpoint cannot be read"
    require_package("torch", consequence, "pip install 'pytest-mlperf[torch]'")
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        named = dict(loaded["state_dict"])
    except Exception as error:  # whatever a damaged file raises
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error});"
            " it should be the .pt file of Zenodo record 3662521. Download it again."
        ) from error
    return {
        name.replace("joint_net", "joint.net"): value.float().numpy()
        for name, value in named.items()
    }


def main(arguments: list[str]) -> int:
    """Write the graphs; returns the exit status."""
    if len(arguments) != 2:
        sys.stderr.write(f"usage:{(__doc__ or '').partition('python -m')[2]}")
        return 2
    checkpoint, folder = map(Path, arguments)
    try:
        write_parts(read_checkpoint(checkpoint), folder)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}: encoder.onnx, predictor.onnx, joint.onnx\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
