# SPDX-License-Identifier: BSD-2-Clause
"""An attention function of transformers that lets decode steps attend on a device.

Passes of several tokens, and so prompts, go to the function that the model had before.
"""

import sys

import numpy as np

from ..spec.errors import LogicPimError
from .families import to_numpy
from .mirror import Mirror

_BASES = ("sdpa", "eager")
_MIRRORS: dict[int, tuple[Mirror, str]] = {}
"""By the identity of a model's configuration, which all its modules share."""


def install(model, mirror: Mirror) -> None:
    """From now on decode steps of the model attend on the device."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    base = model.config._attn_implementation
    if base not in _BASES:
        raise LogicPimError(f"attention {base!r} cannot be offloaded: load the model with "
                            f"attn_implementation='sdpa' or 'eager'")
    name = f"logicpim_{base}"
    ALL_ATTENTION_FUNCTIONS.register(name, _forward)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
    _MIRRORS[id(model.config)] = mirror, base
    model.set_attn_implementation(name)


def restore(model) -> None:
    """Undo :func:`install`."""
    _, base = _MIRRORS.pop(id(model.config))
    model.set_attn_implementation(base)


def visible_keys(mask: np.ndarray | None, batch: int, context: int) -> np.ndarray | None:
    """bool [B, context] from a mask [B or 1, heads or 1, T, context] of the last query: True, or
    0 where it is added to the scores, is seen. None if all are."""
    if mask is None:
        return None
    row = mask[:, 0, -1, -context:]
    seen = row if row.dtype == bool else row == 0
    return None if seen.all() else np.broadcast_to(seen, (batch, context))


def _forward(module, query, key, value, attention_mask, scaling=None, **more):
    """As functions of transformers' AttentionInterface: [B, T, heads, size], and no weights."""
    mirror, base = _MIRRORS[id(module.config)]
    if query.shape[2] > 1 or more.get("softcap"):
        return _base(base, module)(module, query, key, value, attention_mask, scaling=scaling,
                                   **more)
    import torch
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    sinks = more.get("s_aux")
    mask = None if attention_mask is None else to_numpy(attention_mask)
    y = mirror(module.layer_idx, *(to_numpy(x) for x in (query[:, :, 0], key, value)),
               scale=float(scaling), visible=visible_keys(mask, len(key), key.shape[2]),
               sinks=None if sinks is None else to_numpy(sinks))
    return torch.from_numpy(y)[:, None].to(device=query.device, dtype=query.dtype), None


def _base(name: str, module):
    """The function that the module would have called."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    if name == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[name]
