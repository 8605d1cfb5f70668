"""What ``to_nir`` and ``from_nir`` note in texts, changed by somebody else: refused by name, without a traceback."""

from __future__ import annotations

import numpy as np
import pytest

from netx_export import NetworkDescription, NetxFormatError
from netx_export.network.description import CubaNeuron, Dense, Input
from netx_export.nir import from_nir, roundings, to_nir

pytest.importorskip("nir")


def _network(**metadata: str) -> NetworkDescription:
    layer = Dense(np.array([[2, -4, 6]]), CubaNeuron(80, np.array([1024]), np.array([128])))
    return NetworkDescription((Input((3,)), layer), metadata)


@pytest.mark.parametrize("text", ["{", "[3]", '[{"node": "0"}]'])
def test_a_text_on_roundings_that_is_not_from_nirs(text: str) -> None:
    with pytest.raises(NetxFormatError, match="text `nir_rounded` is none of from_nir's"):
        roundings(_network(nir_rounded=text))


@pytest.mark.parametrize("note", ["{", 3, None])
def test_metadata_that_are_no_text_of_to_nir(note: object) -> None:
    graph = to_nir(_network(), dt=1e-4)
    graph.metadata["lava_spikeloss"] = note
    with pytest.raises(NetxFormatError, match=r"metadata `lava_spikeloss` cannot be read\. Remove it"):
        from_nir(graph)
