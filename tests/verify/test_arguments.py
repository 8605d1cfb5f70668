"""A wrong argument of ``verify`` is named, with what was expected and what came, before anything runs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from netx_export import NetxFormatError, SimulationError, Tolerance, verify


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lava_samples": -5}, ValueError, "`lava_samples` to be at least 0 but got -5"),
        ({"lava_samples": True}, TypeError, "`lava_samples` to be an integer but got bool"),
        ({"lava_samples": 3.0}, TypeError, "`lava_samples` to be an integer but got float"),
        ({"lava_samples": None}, TypeError, "`lava_samples` to be an integer but got NoneType"),
        ({"seed": -1}, ValueError, "`seed` to be at least 0 but got -1"),
        ({"seed": "0"}, TypeError, "`seed` to be an integer but got str"),
        ({"seed": None}, TypeError, "`seed` to be an integer but got NoneType"),
        ({"timeout": -1}, ValueError, "`timeout` to be greater than 0.0 but got -1"),
        ({"timeout": float("nan")}, ValueError, "`timeout` to be greater than 0.0 but got nan"),
        ({"timeout": "3"}, TypeError, "`timeout` to be a number but got str"),
        ({"stop_early": "no"}, TypeError, "`stop_early` to be True or False but got 'no'"),
        ({"progress": 2}, TypeError, "`progress` to be True or False but got 2"),
        ({"tolerance": 0.1}, TypeError, "`tolerance` to be a Tolerance, such as Tolerance(rate=0.01), or a mapping"),
        ({"tolerance": {"dense1": 0.1}}, TypeError, "`tolerance` to be a Tolerance, such as"),
        ({"tolerance": [Tolerance(rate=0.1)]}, TypeError, "`tolerance` to be a Tolerance, such as"),
        ({"recorded": 3}, TypeError, "`recorded` to be a mapping from names of layers to arrays, or the path"),
        ({"recorded": {}}, SimulationError, "The recording holds nothing"),
    ],
)
def test_options(options: dict[str, Any], error: type[Exception], message: str, plain: Any) -> None:
    with pytest.raises(error, match=re.escape(message)):
        verify(None, plain.path, plain.spikes, **{"recorded": plain.run, **options})


@pytest.mark.parametrize(
    ("limit", "error"),
    [(True, TypeError), ("0.1", TypeError), (1j, TypeError), (-0.1, ValueError), (float("nan"), ValueError)],
)
def test_limits(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"`tolerance\.rate` to be"):
        Tolerance(rate=limit)


@pytest.mark.parametrize("number", [np.int64(2), np.uint8(2)])
def test_whole_numbers_of_numpy_will_do(number: Any, plain: Any) -> None:
    assert verify(None, plain.path, plain.spikes, recorded=plain.run, lava_samples=number, seed=number).passed


@pytest.mark.parametrize(
    ("spikes", "error", "message"),
    [
        (np.zeros((0, 4, 20)), SimulationError, "at least one sample and one step but got (0, 4, 20)"),
        (np.zeros((3, 4, 0)), SimulationError, "at least one sample and one step but got (3, 4, 0)"),
        (np.zeros((3, 4, 2, 20)), SimulationError, "at least one sample and one step but got (3, 4, 2, 20)"),
        (
            np.zeros((3, 5, 20)),
            SimulationError,
            "Expected spikes of shape (N, 4, T) with at least one sample and one step but got (3, 5, 20)",
        ),
        (np.zeros((3, 4)), SimulationError, "Expected spikes of shape (N, 4, T)"),
        (np.float64(1), SimulationError, "Expected spikes of shape (N, 4, T)"),
        (3, SimulationError, "Expected spikes of shape (N, 4, T)"),
        ([], SimulationError, "Expected spikes of shape (N, 4, T)"),
        (
            torch.zeros(3, 4, 20).to_sparse(),
            TypeError,
            "`spikes` to be a dense array of real numbers but got a torch.sp",
        ),
        (
            torch.zeros(3, 4, 20, dtype=torch.complex64),
            TypeError,
            "`spikes` to be a dense array of real numbers but got",
        ),
        (np.zeros((3, 4, 20), complex), TypeError, "`spikes` to be a dense array of real numbers but got complex128"),
        (np.zeros((3, 4, 20), object), TypeError, "`spikes` to be a dense array of real numbers but got object"),
        (np.zeros((3, 4, 20), str), TypeError, "`spikes` to be a dense array of real numbers but got <U"),
        (np.zeros((3, 4, 20), np.longdouble), TypeError, "`spikes` to be a dense array of real numbers but got float"),
        ([[[1, 0], [1]]], TypeError, "`spikes` to be a dense array of real numbers but got"),
        ("spikes", TypeError, "`spikes` to be a dense array of real numbers but got <U6"),
        (None, TypeError, "`spikes` to be a dense array of real numbers but got object"),
    ],
    ids=str,
)
def test_spikes(spikes: Any, error: type[Exception], message: str, plain: Any) -> None:
    with pytest.raises(error, match=re.escape(message)):
        verify(None, plain.path, spikes)


@pytest.mark.parametrize("value", [2, 0.5, float("nan"), -1])
def test_values_in_the_last_sample_are_looked_at_too(value: float, plain: Any) -> None:
    spikes = plain.spikes.astype(float)
    spikes[-1, 2, 3] = value
    with pytest.raises(SimulationError, match="Expected spikes of 0 and 1"):
        verify(None, plain.path, spikes, recorded=plain.run)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", ">u4", "i8", "f2", ">f8"])
def test_spikes_of_any_type_in_any_form(dtype: str, plain: Any) -> None:
    for spikes in (
        plain.spikes.astype(dtype),
        plain.spikes.astype(dtype).tolist(),
        plain.spikes.astype(dtype)[::-1][::-1],
    ):
        assert verify(None, plain.path, spikes, recorded=plain.run).passed


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.bfloat16, torch.float64])
def test_tensors_of_any_type(dtype: torch.dtype, plain: Any) -> None:
    assert verify(None, plain.path, torch.from_numpy(plain.spikes).to(dtype), recorded=plain.run).passed
    needs = torch.from_numpy(plain.spikes).float().requires_grad_()
    assert verify(None, plain.path, needs, recorded=plain.run).passed


@pytest.mark.parametrize("name", ["uint16", "uint32", "uint64", "float8_e4m3fn"])
def test_types_of_which_torch_cannot_choose_samples(name: str, plain: Any) -> None:
    spikes, labels = (torch.from_numpy(one).to(getattr(torch, name)) for one in (plain.spikes, np.arange(12) % 3))
    report = verify(None, plain.path, spikes, labels, recorded=plain.run)
    known = verify(None, plain.path, plain.spikes, np.arange(12) % 3, recorded=plain.run)
    assert report.passed
    assert {**report.to_dict(), "run": {}} == {**known.to_dict(), "run": {}}


def test_what_is_masked_is_not_taken_for_what_lies_under_the_mask(plain: Any) -> None:
    spikes = np.ma.masked_array(plain.spikes, plain.spikes > 0)
    labels = np.ma.masked_equal(np.arange(12) % 3, 2)
    layer = np.ma.masked_array(plain.run["dense1"], plain.run["dense1"] > 0)
    with pytest.raises(ValueError, match="`spikes` to be an array without masked values but got a masked one"):
        verify(None, plain.path, spikes, recorded=plain.run)
    with pytest.raises(ValueError, match="`labels` to be an array without masked values but got a masked one"):
        verify(None, plain.path, plain.spikes, labels, recorded=plain.run)
    with pytest.raises(SimulationError, match="recorded spikes of dense1 without masked values"):
        verify(None, plain.path, plain.spikes, recorded={**plain.run, "dense1": layer})
    unmasked = np.ma.masked_array(plain.spikes)
    assert verify(None, plain.path, unmasked, recorded=plain.run).passed


def test_what_is_no_network(plain: Any) -> None:
    with pytest.raises(TypeError, match=r"`net` to be a torch\.nn\.Module or None but got str"):
        verify("net", plain.path, plain.spikes)  # type: ignore[arg-type]


def test_what_is_no_path(plain: Any) -> None:
    with pytest.raises(NetxFormatError, match=r"a\\x00b: no path, for it holds a NUL"):
        verify(None, "a\0b", plain.spikes)
    with pytest.raises(
        TypeError, match="`path` to be the path of a netx file or a NetworkDescription but got NoneType"
    ):
        verify(None, None, plain.spikes)  # type: ignore[arg-type]


def test_the_file_is_looked_at_before_the_data(plain: Any, tmp_path: Any) -> None:
    with pytest.raises(NetxFormatError, match="no such file"):
        verify(None, tmp_path / "missing.net", plain.spikes)
