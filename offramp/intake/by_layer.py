"""How far each layer of an integer network is from its source: codes that differ, and signal to noise."""

import math
from typing import Any

import numpy as np

from hw.network.base_layer import Tensor
from models.frontends.identities import own_logits
from models.integer import golden
from offramp.intake.model import Model
from offramp.intake.reference import Agreement
from offramp.intake.samples import Samples

__all__ = ["by_layer"]

#: Images on which signal and noise are measured, at most; so many at a time.
_IMAGES, _BATCH = 64, 16


def by_layer(model: Model, samples: Samples, codes: np.ndarray, agreement: Agreement | None) -> list[dict[str, Any]]:
    """Every layer that was compared with something, in execution order.

    Parameters
    ----------
    codes : int8 array (N, height, width, channels)
        The samples as the network takes them.
    agreement : Agreement or None
        How golden stands to the runtime of the source.

    Returns
    -------
    list of dict
        ``layer``, ``kind``; against the runtime ``differing`` (share of the values, 0..1), ``largest`` (difference) and
        ``rounded`` (whether that is in codes, else in steps of the accumulators); ``sqnr_db``, signal to quantization
        noise against the float network, in decibel. None where it wasn't compared, or there is no noise.
    """
    ratios = _ratios(model, samples, codes)
    found = agreement.layers if agreement is not None else {}
    rows = []
    for layer in model.network.layers:
        name = layer.name
        if name in found or name in ratios:
            compared = found.get(name)
            rows.append(
                {
                    "layer": name,
                    "kind": layer.kind,
                    "differing": None if compared is None else compared.differing,
                    "largest": None if compared is None else compared.largest,
                    "rounded": None if compared is None else compared.rounded,
                    "sqnr_db": ratios.get(name),
                }
            )
    return rows


def _ratios(model: Model, samples: Samples, codes: np.ndarray) -> dict[str, float | None]:
    """Signal to noise of the layers that a float source has, in decibel."""
    if model.float_maps is None or not samples.in_units:
        return {}
    signal, noise = dict[str, float](), dict[str, float]()
    for start in range(0, min(_IMAGES, len(codes)), _BATCH):
        part = slice(start, min(start + _BATCH, _IMAGES))
        made, expected = golden.run(model.network, codes[part]).tensors, model.float_maps(samples.images[part])
        for layer in model.network.layers:
            if layer.name in expected:
                wanted = expected[layer.name].astype(np.float64)
                codes_or_logits = made[layer.name]
                if codes_or_logits.shape != wanted.shape:
                    flat = codes_or_logits.reshape(len(wanted), -1)
                    codes_or_logits = own_logits(flat, wanted[0].size).reshape(wanted.shape)
                off = _values(codes_or_logits, layer.output) - wanted
                signal[layer.name] = signal.get(layer.name, 0.0) + float(np.square(wanted).sum())
                noise[layer.name] = noise.get(layer.name, 0.0) + float(np.square(off).sum())
    return {
        name: 10 * math.log10(signal[name] / noise[name]) if signal[name] and noise[name] else None for name in signal
    }


def _values(codes: np.ndarray, tensor: Tensor) -> np.ndarray:
    """What codes or logits stand for."""
    return (codes.astype(np.float64) - tensor.zero_point) * tensor.scale
