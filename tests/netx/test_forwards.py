"""A forward is exported as it is written: what it does around and between its blocks is in the file, on the host, or
refused for what it is.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support_forwards import FORWARDS, Forward, Images, sample

from netx_export import ExportError, export, read, simulate, verify

pytestmark = pytest.mark.slayer

EXACT = [forward for forward in FORWARDS if not forward.refused]
REFUSED = [forward for forward in FORWARDS if forward.refused]


@pytest.mark.parametrize("forward", EXACT, ids=lambda forward: forward.does)
def test_what_a_forward_does_is_in_the_file_or_on_the_host(forward: Forward, tmp_path: Path) -> None:
    net, path, spikes = Images(forward.code), tmp_path / "a.net", sample()
    result = export(net, path, spikes)
    assert result.proved
    assert (result.begins_inside, result.ends_inside) == (forward.begins_inside, forward.ends_inside)
    recorded = read(path).metadata
    assert ("begins" in recorded, "ends" in recorded) == (forward.begins_inside, forward.ends_inside)
    report = verify(net, path, sample(12), lava_samples=0)
    assert report.exact
    assert report.passed
    assert (report.begins_inside, report.ends_inside) == (forward.begins_inside, forward.ends_inside)
    if not (forward.begins_inside or forward.ends_inside):
        returned = net.eval()(spikes)
        spiking = (
            returned
            if isinstance(returned, torch.Tensor)
            else [*_values(returned)][-1 if isinstance(returned, dict) else 0]
        )
        assert (simulate(path, spikes).output == spiking.detach().numpy()).all()


def _values(returned: object) -> list[torch.Tensor]:
    return list(returned.values() if isinstance(returned, dict) else returned)  # type: ignore[call-overload]


@pytest.mark.parametrize("forward", REFUSED, ids=lambda forward: forward.does)
def test_what_no_file_can_do_is_refused_in_its_own_words(forward: Forward, tmp_path: Path) -> None:
    spikes = sample()
    with pytest.raises(ExportError, match=forward.refused):
        export(Images(forward.code), tmp_path / "a.net", spikes)
    assert torch.equal(spikes, sample())
    assert not list(tmp_path.iterdir())
