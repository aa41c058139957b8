"""What a sweep wrote, read by those it was written for: MLflow's client, Hydra's composer, torch.nn and Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import goldfish
from goldfish.tracking.store import Store

pytestmark = pytest.mark.slow
CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def client(recorded: Path) -> Any:
    """MLflow's own client on the store."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{recorded / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client: Any) -> list[Any]:
    """The runs as MLflow's client finds them."""
    found = client.search_runs([client.get_experiment_by_name("outside").experiment_id])
    assert len(found) == 4
    return list(found)


def test_mlflows_client_sees_what_our_table_has(recorded: Path, runs: list[Any], client: Any) -> None:
    table = Store(root=recorded).runs("outside").set_index("run_id")
    for run in runs:
        assert run.info.status == "FINISHED"
        row = table.loc[run.info.run_id]
        assert (run.data.params["cell"], int(run.data.params["seed"])) == (row["cell"], row["seed"])
        accuracy = run.data.metrics["test/accuracy"]
        assert accuracy == row["test/accuracy"]
        history = client.get_metric_history(run.info.run_id, "test/accuracy")
        assert [point.value for point in history] == [accuracy]
        lags = client.get_metric_history(run.info.run_id, "gradient/log10_norm_by_lag")
        assert [point.step for point in lags] == list(range(len(lags)))
        assert lags


def test_artifacts_come_through_mlflow_and_fit_torch_nn(runs: list[Any], client: Any, tmp_path: Path) -> None:
    modules = {"lstm": nn.LSTM, "gru": nn.GRU}
    for run in runs:
        folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path / run.info.run_id)))
        ours = goldfish.trained(folder)
        weights = torch.load(folder / "weights.pt", weights_only=True)
        prefix = next(name for name in weights if name.endswith("weight_hh_l0")).removesuffix("weight_hh_l0")
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        module = modules[run.data.params["cell"]](own["weight_ih_l0"].shape[1], 4, batch_first=True)
        module.load_state_dict(own)
        (recurrent,) = (part for part in ours.modules() if isinstance(part, goldfish.Recurrent))
        inputs = torch.randn(3, 5, own["weight_ih_l0"].shape[1], generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(recurrent(inputs.unsqueeze(0))[0][0], module(inputs)[0])


def test_lightnings_logger_goes_on_where_a_run_ended(
    recorded: Path, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.tracking._tracking_service.utils as of_mlflow
    from pytorch_lightning.loggers import MLFlowLogger

    uri = f"sqlite:///{recorded / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # the logger sets both for the whole process
    monkeypatch.setattr(of_mlflow, "_tracking_uri", None)
    logger = MLFlowLogger(run_id=runs[0].info.run_id, tracking_uri=uri)
    logger.log_metrics({"afterwards/value": 2.5}, step=3)
    read = logger.experiment.get_run(runs[0].info.run_id)
    assert read.data.metrics["afterwards/value"] == 2.5
    assert read.data.metrics["test/accuracy"] == runs[0].data.metrics["test/accuracy"]


def test_hydras_own_composer_reads_conf_and_a_recorded_configuration(runs: list[Any], client: Any, tmp_path: Path):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from goldfish.sweep.identity import fingerprint

    folder = Path(client.download_artifacts(runs[0].info.run_id, "", str(tmp_path)))
    with initialize_config_dir(str(folder), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose("config"), resolve=True)
    assert fingerprint(goldfish.resolve(config)) == runs[0].data.tags["goldfish.fingerprint"]


class Tagger(nn.Module):
    """Somebody's model with our recurrent network in it."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = goldfish.Recurrent("gru", 3, 5, engine="stepwise")
        self.readout = nn.Linear(5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, 3) → (B, T, 2)."""
        return self.readout(self.recurrent(inputs.unsqueeze(0))[0][0])


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # Lightning 2.6 on torch 2.13
@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
def test_somebodys_lightning_module_trains_and_loads_its_checkpoint(tmp_path: Path) -> None:
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader, Dataset

    class Somebodys(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Tagger()

        def training_step(self, batch: Tensor) -> Tensor:
            return self.model(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    class Sequences(Dataset[Tensor]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Tensor:
            return inputs[index]

    inputs = torch.randn(8, 6, 3, generator=torch.Generator().manual_seed(2))
    module = Somebodys()
    before = module.training_step(inputs).item()
    trainer = pl.Trainer(
        max_steps=5, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Sequences(), batch_size=4))
    after = module.training_step(inputs).item()
    assert after < before
    trainer.save_checkpoint(tmp_path / "theirs.ckpt")
    again = Somebodys.load_from_checkpoint(tmp_path / "theirs.ckpt")
    assert again.training_step(inputs).item() == after
