"""goldfish.GradientFlow in a Trainer of Lightning's own."""

from __future__ import annotations

import copy

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn

import goldfish
from goldfish.errors import ConfigError


class Sequences(pl.LightningModule):
    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.lstm, self.fails = nn.LSTM(2, 8, bidirectional=True, batch_first=True), fails

    def training_step(self, batch, batch_idx):
        loss = self.lstm(batch)[0].square().mean()
        if self.fails:
            raise ZeroDivisionError
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        sequences = torch.randn(20, 9, 2, generator=torch.Generator().manual_seed(0))
        return torch.utils.data.DataLoader([*sequences], 4)  # type: ignore[arg-type]


def trainer(tmp_path, callback):
    return pl.Trainer(
        max_epochs=1, logger=CSVLogger(tmp_path, name="", version=""), callbacks=[callback], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*treespec.*", "ignore:.*does not have many workers.*")
def test_every_second_step_is_logged_as_watch_sees_it(tmp_path):
    torch.manual_seed(0)
    module, callback = Sequences(), goldfish.GradientFlow(every_n_steps=2)
    twin = copy.deepcopy(module)
    with goldfish.watch(twin) as flow:
        twin.training_step(next(iter(twin.train_dataloader())), 0).backward()
    trainer(tmp_path, callback).fit(module)
    rows = pd.read_csv(tmp_path / "metrics.csv")
    for layer, row in (("l0", flow.summary()[0]), ("l0_reverse", flow.summary()[1])):
        logged = rows[f"gradient_flow/lstm/{layer}/decay_rate"].dropna()
        assert len(logged) == 3  # steps 0, 2, 4
        assert logged.iloc[0] == pytest.approx(row["decay_rate"], rel=1e-5)
    assert "forward" not in module.lstm.__dict__


@pytest.mark.filterwarnings("ignore:.*treespec.*", "ignore:.*does not have many workers.*")
def test_a_step_that_fails_leaves_nothing_behind(tmp_path):
    module = Sequences(fails=True)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, goldfish.GradientFlow()).fit(module)
    assert "forward" not in module.lstm.__dict__


def test_a_step_count_below_one_is_refused():
    with pytest.raises(ConfigError, match="every_n_steps=0: expected int ≥ 1"):
        goldfish.GradientFlow(every_n_steps=0)
