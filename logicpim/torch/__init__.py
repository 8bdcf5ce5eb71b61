# SPDX-License-Identifier: BSD-2-Clause
"""A transformers model in PyTorch with experts and decode attention on Logic-PIM.

    from logicpim.torch import offload

    with offload(model, backend="reference", config="channel") as handle:
        model.generate(**inputs)
        print(handle.stats)

PyTorch and transformers are imported when :func:`offload` is called, not before.
"""

from .handle import Offload, offload

__all__ = ["Offload", "offload"]
