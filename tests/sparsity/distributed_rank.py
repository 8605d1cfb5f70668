"""One rank of the comparison in test_distributed.py: python distributed_rank.py RANK WORLD FOLDER."""

import os
import sys

import torch
import torch.distributed as dist
from lookalike import lookalike_net

from lava_spikeloss import BudgetEnforcer, LagrangeMultiplier, LoihiBudget, SparsityEnforcer, SpikeStatistics

STEPS = 3


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    return lookalike_net(6, 5, 4).double()


def losses() -> dict[str, SparsityEnforcer | BudgetEnforcer]:
    rate = {"max_rate": 0.05, "min_rate": 0.01}
    return {
        "constant": SparsityEnforcer(**rate, lam=2.0, per="channel"),
        "multiplier": SparsityEnforcer(**rate, lam=LagrangeMultiplier(), per="neuron"),
        "budget": BudgetEnforcer(LoihiBudget(synops=3.0, events_per_step=0.2, energy={"0": 3e-8})),
    }


def train(net: torch.nn.Module, model: torch.nn.Module, batch: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    """Loss, gradients and multipliers of every step, for every kind of loss, and the statistics at the end."""
    results = {}
    for name, enforcer in losses().items():
        enforcer.attach(net)
        steps = {}
        for step in range(STEPS):
            model.zero_grad()
            output = model(batch)
            loss = enforcer.loss
            (loss + output.square().mean()).backward()
            steps[f"loss {step}"] = loss.detach()
            for key, parameter in net.named_parameters():
                steps[f"gradient {key} {step}"] = parameter.grad.clone()
            if isinstance(enforcer.lam, LagrangeMultiplier):
                steps |= {f"multiplier {key} {step}": value for key, value in enforcer.lam.multipliers.items()}
        enforcer.detach()
        results[name] = steps
    statistics = SpikeStatistics().attach(net)
    for part in batch.split(2):  # the second rank has fewer batches, which must not matter
        net(part)
    statistics.detach()
    results["statistics"] = flatten(statistics.compute().to_dict())
    return results


def flatten(tree: dict, prefix: str = "") -> dict[str, torch.Tensor]:
    """The numbers of nested dictionaries."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key} ")
        elif isinstance(value, int | float):
            flat[prefix + key] = torch.tensor(value)
    return flat


def main(rank: int, world: int, folder: str) -> None:
    batch = (torch.rand(8, 6, 7, generator=torch.Generator().manual_seed(1)) < 0.5).double().chunk(world)[rank]
    net = build()
    if world == 1:
        torch.save(train(net, net, batch), f"{folder}/whole")
        return
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    results = train(net, torch.nn.parallel.DistributedDataParallel(net), batch)
    absent = SpikeStatistics()
    if rank == 0:  # the other rank has no data, and does not know the layer
        absent.update({"only": torch.ones(2, 3, 4)})
    results["absent"] = flatten(absent.compute().to_dict())
    results["nothing"] = flatten(SpikeStatistics().compute().to_dict())
    torch.save(results, f"{folder}/{rank}")
    dist.barrier()
    os._exit(0)  # gloo's threads may abort a process that ends by itself, and `destroy_process_group` wait for ever


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
