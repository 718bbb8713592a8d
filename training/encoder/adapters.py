"""Training a few weights beside frozen ones: LoRA, AdaLoRA and bottleneck adapters."""

from typing import Any

import peft
import torch
from torch import Tensor
from transformers import PreTrainedModel

# Every linear layer of BERT: attention and feed-forward.
_TARGETS = ["query", "key", "value", "dense"]
# How AdaLoRA begins: with twice the rank that it is to end with.
_FIRST_RANK = 2
_WIDTH = "bottleneck_width"


class Adapter:
    """All weights of the encoder are trained; the kinds below freeze them and train others beside."""

    def __init__(self, bert: PreTrainedModel) -> None:
        self.model = bert

    def after_step(self, step: int) -> None:
        """Called after step `step` (from 0) with its gradients still there."""

    def penalty(self) -> Tensor | None:
        """What is added to the loss, a scalar."""
        return None

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of it besides its weights."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""

    def merged(self) -> PreTrainedModel:
        """The BERT with what was learned: plain for LoRA and AdaLoRA, with its bottlenecks where it has them."""
        return self.model


class LoRA(Adapter):
    """Low-rank updates of all linear layers (Hu et al. 2022), scaled by 2.

    They begin as the largest singular directions of each layer, taken out of its frozen rest (PiSSA: Meng, Wang, Zhang
    2024): no random half that few steps cannot make good, so it spreads less over seeds and needs a smaller rate.
    """

    def __init__(self, bert: PreTrainedModel, rank: int) -> None:
        config = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=_TARGETS, init_lora_weights="pissa"
        )
        super().__init__(peft.get_peft_model(bert, config))

    def merged(self) -> PreTrainedModel:
        """A plain BERT: the updates are added to its weights."""
        return self.model.merge_and_unload()


class AdaLoRA(LoRA):
    """Low-rank updates whose ranks go to the layers that need them (Zhang et al. 2023): `rank` on average at the end.

    The first tenth of the steps keeps all ranks, over the last third the choice stands.
    """

    def __init__(self, bert: PreTrainedModel, rank: int, steps: int) -> None:
        config = peft.AdaLoraConfig(
            init_r=_FIRST_RANK * rank,
            target_r=rank,
            lora_alpha=2 * rank,
            lora_dropout=0.0,
            target_modules=_TARGETS,
            total_step=steps,
            tinit=steps // 10,
            tfinal=steps // 3,
            deltaT=max(1, steps // 100),
        )
        Adapter.__init__(self, peft.get_peft_model(bert, config))
        self._config = self.model.peft_config["default"]
        self._allocator = self.model.base_model.rankallocator

    def after_step(self, step: int) -> None:
        """Weighs the ranks by their gradients and drops the least."""
        self.model.base_model.update_and_allocate(step + 1)

    def penalty(self) -> Tensor:
        """How far the factors are from orthogonal (equation 4)."""
        weights = [p for name, p in self.model.named_parameters() if "lora_A" in name or "lora_B" in name]
        products = [p @ p.T if p.shape[0] < p.shape[1] else p.T @ p for p in weights]
        distances = [torch.linalg.norm(one - torch.eye(len(one), device=one.device)) for one in products]
        return torch.stack(distances).mean() * float(self._config.orth_reg_weight)

    def state(self) -> dict[str, Any]:
        """The averages by which ranks are weighed, and those that were dropped."""
        names = ("ipt", "exp_avg_ipt", "exp_avg_unc")
        return {**{name: getattr(self._allocator, name) for name in names}, "pattern": self._config.rank_pattern}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` gave."""
        state = dict(state)
        self._config.rank_pattern = state.pop("pattern")
        device = self.model.device
        for name, values in state.items():
            setattr(self._allocator, name, {of: one.to(device) for of, one in values.items()})


class Bottleneck(Adapter):
    """A small layer after each attention and each feed-forward block (Houlsby et al. 2019).

    It is no linear map, so it cannot be merged: the exported model has it, a plain BERT could not.
    """

    def __init__(self, bert: PreTrainedModel, width: int) -> None:
        for parameter in bert.parameters():
            parameter.requires_grad_(False)
        add_bottlenecks(bert, width)
        super().__init__(bert)


class _WithBottleneck(torch.nn.Module):
    """x -> y + up(gelu(down(y))), y = dense(x); nothing but `dense` before it has learned."""

    def __init__(self, dense: torch.nn.Linear, width: int) -> None:
        super().__init__()
        self.dense = dense
        self.down = torch.nn.Linear(dense.out_features, width)
        self.up = torch.nn.Linear(width, dense.out_features)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dense(x)
        moved: Tensor = self.up(torch.nn.functional.gelu(self.down(y)))
        return y + moved


def add_bottlenecks(bert: PreTrainedModel, width: int) -> None:
    """Puts bottlenecks into the BERT; its config says so, and `read_model` of training.encoder.export obeys it."""
    for layer in bert.encoder.layer:
        for output in (layer.attention.output, layer.output):
            output.dense = _WithBottleneck(output.dense, width)
    setattr(bert.config, _WIDTH, width)


def bottleneck_width(config: Any) -> int:
    """The width of the bottlenecks of a BERT with this config, 0 where it has none."""
    return int(getattr(config, _WIDTH, 0))


def adapt(bert: PreTrainedModel, kind: str, rank: int, width: int, steps: int) -> Adapter:
    """The adapter of this kind ("full", "lora", "adalora", "bottleneck") on the BERT."""
    if kind == "lora":
        return LoRA(bert, rank)
    if kind == "adalora":
        return AdaLoRA(bert, rank, steps)
    return Bottleneck(bert, width) if kind == "bottleneck" else Adapter(bert)
