"""The documentation's Lightning callback, as it stands there, inside a real Trainer that logs to TensorBoard."""

import re
from pathlib import Path

import pytest
import torch

import lava_spikeloss

PAGE = Path(__file__).parent.parent.parent / "docs" / "sparsity.md"


@pytest.mark.filterwarnings("ignore")  # Lightning warns of few workers and few batches
def test_the_callback_writes_the_statistics_of_the_validation_set(lookalike, tmp_path):
    lightning = pytest.importorskip("lightning")
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = lookalike
            self.enforcer = lava_spikeloss.SparsityEnforcer(0.02, lava_spikeloss.LagrangeMultiplier())
            self.enforcer.attach(self.net)

        def training_step(self, batch):
            return self.net(batch).mean() + self.enforcer.loss

        def validation_step(self, batch):
            self.net(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=0.0)  # what is measured stays as it is

    block = re.search(r"```python\nimport lightning\n\n\n(class Sparsity\(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    namespace = {"lightning": lightning, "SpikeStatistics": lava_spikeloss.SpikeStatistics}
    exec(compile(block[1], PAGE.name, "exec"), namespace)

    train, validation = torch.ones(8, 6, 10), (torch.rand(8, 6, 10) < 0.3).float()
    logger = TensorBoardLogger(tmp_path)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=logger, callbacks=[namespace["Sparsity"]()], log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Module(), *(torch.utils.data.DataLoader(spikes, batch_size=2) for spikes in (train, validation)))

    events = EventAccumulator(logger.log_dir)
    events.Reload()
    expected = lookalike[0](validation).mean().item()
    written = events.Scalars("spikes/0/rate")
    assert [scalar.step for scalar in written[-2:]] == [4, 8]
    assert [scalar.value for scalar in written[-2:]] == pytest.approx([expected] * 2)
    assert events.Histograms("spikes/1/rates")[-1].histogram_value.num == 4  # neurons of the block
