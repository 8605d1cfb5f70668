"""`first.net` in snnTorch, through NIR, in the same report. Needs snntorch and nirtorch."""

import numpy as np
import torch
from snntorch.import_nir import import_from_nir

from netx_export import Tolerance, read, verify
from netx_export.command.demo import load_digits
from netx_export.nir import to_nir

digits = load_digits()
network = import_from_nir(to_nir("first.net"))  # modules have the names of netx's layers
shifts = read("first.net").shifts
fired = {name: [] for name in shifts}
for name, frames in fired.items():
    neurons = network.get_submodule(name)
    neurons.register_forward_hook(lambda _, __, spikes, frames=frames: frames.append(spikes))

with torch.no_grad():
    state = None
    for spikes in digits.test_spikes.unbind(-1):  # one step of all samples
        _, state = network(spikes, state)

recording = {}
for name, shift in shifts.items():  # SLAYER delays each layer by a step, and NIR does not
    spikes = torch.stack(fired[name], dim=-1)
    recording[name] = torch.nn.functional.pad(spikes, (shift, -shift)).byte().numpy()
np.savez_compressed("snntorch.npz", **recording)

report = verify(
    None,
    "first.net",
    digits.test_spikes,
    digits.test_labels,
    recorded="snntorch.npz",
    tolerance=Tolerance(neuron_rate=0.01, differing=0.02),
)
report.save_html("snntorch.html")
for layer in report.layers:
    print(f"{layer.name}: {layer.status}, {layer.differing} of {layer.expected.spikes} spikes differ")
    print(f"    rate {layer.expected.rate:.3%} in the reference, {layer.got.rate:.3%} in snnTorch")
print("PASSED" if report.passed else "FAILED")
