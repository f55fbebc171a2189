"""The AICT network: a small image and its mask to the lookup tables that harmonize it at any size.

Source: Q. Meng et al., "High-Resolution Image Harmonization with Adaptive-Interval Color Transformation", NeurIPS 2024,
section 3. Our own code; with the default settings the same function as the authors' release.
"""

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from torch import nn

from harmonyiqa.config import AictSettings
from harmonyiqa.errors import UserError
from harmonyiqa.harmonize import lut
from harmonyiqa.harmonize.pictures import Pixels, bilinear, white_of

BUNDLED = Path(__file__).with_name("bundled")
_PATCH, _WIDTH, _FEATURES = 4, 256, 12
_LAYERS, _HEADS, _MLP = 9, 2, 512
_USUAL_PIXEL = (0.45, 0.45, 0.45, 0.2)  # red, green, blue, mask
_EMBED_GAIN, _FIRST_BRANCH = 4, 0.1


class AICT(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="harmonyiqa",
    tags=["image-harmonization", "image-composition"],
    license="apache-2.0",
):
    """Parameter network, lookup and blending in one module.

    A new network is the identity but for small noise: every value table starts as the straight line from 0 to 1. Its
    tokens stay apart: with torch's own first weights nine layers average them away, and the background goes unseen
    (docs/harmonization.md).

    Args:
        config: its layout; the defaults give the release's 5,181,140 parameters.
    """

    def __init__(self, config: AictSettings | None = None) -> None:
        super().__init__()
        config = config or AictSettings()
        self.config = config
        self.embed = nn.Linear(_PATCH**2 * 4, _WIDTH)
        self.encoder = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(_WIDTH, _HEADS, _MLP, config.dropout, "gelu", batch_first=True)
                for _ in range(_LAYERS)
            )
        )
        self.upsample = nn.ConvTranspose2d(_WIDTH, _FEATURES, _PATCH, _PATCH)
        self.heads = nn.ModuleList(
            nn.Conv2d(_FEATURES, self._curves(kind) * config.knots, 1) for kind in config.tables
        )
        self.weighted = [] if config.weights in ("none", "spatial") else list(config.weights)
        values = config.tables.count("v") * config.knots
        self.weights: nn.Linear | None = None
        self.spatial_weights: nn.Conv2d | None = None
        if self.weighted:
            self.scene = nn.Sequential(
                nn.Conv2d(_WIDTH, _WIDTH // 2, 3, padding=1),
                nn.BatchNorm2d(_WIDTH // 2),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(_WIDTH // 2, _WIDTH // 4, 3, padding=1),
                nn.BatchNorm2d(_WIDTH // 4),
                nn.ReLU(),
                nn.AdaptiveMaxPool2d(1),
                nn.Flatten(),
            )
            self.weights = nn.Linear(_WIDTH // 4, values * len(self.weighted))
        elif config.weights == "spatial":
            self.spatial_weights = nn.Conv2d(_FEATURES, values * 3, 1)
        self._start_as_identity()
        self._start_with_tokens_apart()

    def _curves(self, kind: str) -> int:
        return 9 if kind == "v" and self.config.crossed else 3

    @torch.no_grad()
    def _start_as_identity(self) -> None:
        knots = self.config.knots
        for kind, head in zip(self.config.tables, self.heads, strict=True):
            line = torch.zeros(self._curves(kind), knots)
            if kind == "v":  # crossed curves of another channel stay at zero
                line[:: 4 if self.config.crossed else 1] = torch.linspace(0, 1, knots)
            _set(head, line.flatten())
        for layer in (self.weights, self.spatial_weights):
            if layer is not None:
                _set(layer, torch.tensor(1.0))

    @torch.no_grad()
    def _start_with_tokens_apart(self) -> None:
        """What all patches have in common is taken out of the embedding, and the layers add little at first."""
        self.embed.weight.mul_(_EMBED_GAIN)
        self.embed.bias.copy_(-self.embed.weight @ torch.tensor(_USUAL_PIXEL).repeat(_PATCH**2))
        for name, parameter in self.encoder.named_parameters():
            if name.endswith(("out_proj.weight", "linear2.weight")):
                parameter.mul_(_FIRST_BRANCH)
            elif name.endswith(("out_proj.bias", "linear2.bias")):
                parameter.zero_()

    def tables(self, image: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """The cascade for a batch, S = `config.low_resolution` (paper, sections 3.1 and 3.2).

        Args:
            image: (N, 3, S, S), 0..1.
            mask: (N, 1, S, S), 0..1, soft after resizing.

        Returns:
            One table a letter of `config.tables`: (N, 3, K + 1, S, S) for "i", (N, 3, K, S, S) for "v" (9 curves
            where channels are crossed).
        """
        n, _, side, _ = image.shape
        cells = side // _PATCH
        patches = torch.cat([image, mask], dim=1).reshape(n, 4, cells, _PATCH, cells, _PATCH)
        tokens = self.embed(patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))  # (N, cells^2, 256)
        if self.config.position == "sine":
            tokens = tokens + sine_position(cells).to(tokens)
        encoded = self.encoder(tokens).transpose(1, 2).reshape(n, _WIDTH, cells, cells)  # T1 of figure 3
        features = self.upsample(encoded)  # (N, 12, S, S), T2 of figure 3
        weights = self._weights(encoded, features)
        tables = []
        for kind, head in zip(self.config.tables, self.heads, strict=True):
            raw = head(features).reshape(n, self._curves(kind), self.config.knots, side, side)
            if kind == "i":
                tables.append(lut.interval_table(raw))
            else:
                tables.append(raw if weights is None else raw * weights.pop(0))
        return tables

    def _weights(self, encoded: torch.Tensor, features: torch.Tensor) -> list[torch.Tensor] | None:
        """For each value table (N, 3, K, 1, 1), or (N, 3, K, S, S) where they vary in space."""
        count, knots, n = self.config.tables.count("v"), self.config.knots, len(encoded)
        if self.spatial_weights is not None:
            spatial = self.spatial_weights(features)
            return list(spatial.reshape(n, count, 3, knots, *features.shape[2:]).unbind(1))
        if self.weights is None:
            return None
        learned = self.weights(self.scene(encoded)).reshape(n, count, len(self.weighted), knots, 1, 1)
        fixed = learned.new_ones(n, count, 3 - len(self.weighted), knots, 1, 1)  # "gb" leaves red alone
        return list(torch.cat([fixed, learned], dim=2).unbind(1))

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Harmonize at low resolution: (N, 3, S, S) and (N, 1, S, S), 0..1, to (N, 3, S, S)."""
        return lut.harmonize(self.tables(image, mask), image, mask)

    @torch.inference_mode()
    def harmonize(self, pixels: Pixels, mask: Pixels, *, fast: bool = False) -> Pixels:
        """Harmonize one photo at its full size.

        Args:
            pixels: (H, W, 3), uint8, uint16, or floats in 0..1.
            mask: (H, W), uint8 (255 is the foreground) or floats in 0..1.
            fast: look up with numba; see `lut.harmonize_pixels`.

        Returns:
            (H, W, 3) of the dtype of `pixels`; the background is the input, bit by bit.
        """
        side = self.config.low_resolution
        device = next(self.parameters()).device
        small = low_resolution(pixels, side).to(device), low_resolution(mask, side).to(device)
        return lut.harmonize_pixels(self.tables(*small), pixels, mask, fast=fast)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # fewer arguments than the mixin's
        cls,
        name: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a saved network, in float32, for inference.

        Args:
            name: a folder that `save_pretrained` wrote, or a hub id. Default: the one that comes with the package.
            device: where it runs; default the CPU.
            revision: branch, tag or commit on the hub.
            local_files_only: never ask the network.

        Raises:
            UserError: there is no such network, or its files are damaged or do not fit together.
        """
        if name is None:
            name = BUNDLED
            if not (BUNDLED / "model.safetensors").is_file():
                raise UserError(
                    "this installation has no bundled AICT: give a folder or a hub id (owner/name)"
                )
        if not Path(name).is_dir() and (str(name).count("/") != 1 or str(name).startswith((".", "/", "~"))):
            raise UserError(f"there is no model folder {name}; give a folder, or a hub id (owner/name)")
        for file in ("config.json", "model.safetensors"):
            if Path(name).is_dir() and not (Path(name) / file).is_file():
                raise UserError(
                    f"the model folder {name} has no {file}: no saved AICT, or a copy is incomplete"
                )
        try:
            model = super().from_pretrained(
                str(name), revision=revision, local_files_only=local_files_only, strict=True
            )
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            raise UserError(f"cannot get model {name} from the hub: {str(error).splitlines()[0]}") from error
        except UserError:
            raise
        except Exception as error:  # safetensors, json and torch each raise their own
            raise UserError(f"model {name} cannot be loaded: {str(error).splitlines()[0]}") from error
        return model.to(device or "cpu").eval()


def _set(layer: nn.Module, bias: torch.Tensor) -> None:
    """Small noise for weights, and this bias, (outputs,) or one number."""
    weights, biases = layer.get_parameter("weight"), layer.get_parameter("bias")
    nn.init.normal_(weights, std=0.02)
    biases.copy_(bias)


def low_resolution(pixels: Pixels, side: int) -> torch.Tensor:
    """What the network sees: side x side by bilinear sampling, without antialiasing, as the release resizes.

    Args:
        pixels: (H, W, 3) or (H, W), uint8, uint16, or floats in 0..1.
        side: in pixels.

    Returns:
        (1, 3, side, side) or (1, 1, side, side), float32, 0..1.
    """
    small = bilinear(pixels, side) / np.float32(white_of(pixels.dtype))
    return torch.from_numpy(np.ascontiguousarray(small.reshape(side, side, -1).transpose(2, 0, 1)))[None]


def sine_position(cells: int) -> torch.Tensor:
    """Sines and cosines of row and column, (cells^2, 256): half of the width each, as in DETR."""
    quarter = _WIDTH // 4
    frequency = torch.exp(-math.log(10_000) * torch.arange(quarter) / quarter)
    angle = torch.arange(cells)[:, None] * frequency
    waves = torch.cat([angle.sin(), angle.cos()], dim=1)  # (cells, 128)
    rows, columns = waves[:, None].expand(-1, cells, -1), waves[None].expand(cells, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def convert_release(path: str | Path) -> AICT:
    """The network of a checkpoint of the authors' release.

    Args:
        path: a `.pth` file; only tensors are unpickled, no code runs.

    Raises:
        UserError: it is no such checkpoint, or any of its tensors is missing, unknown or of another shape.
    """
    path = Path(path)
    try:
        tensors: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except Exception as error:  # pickle, zipfile and torch each raise their own
        raise UserError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise UserError(f"{path} is no checkpoint of AICT: it must hold named tensors and nothing else")
    renamed = {_renamed(name.removeprefix("module.")): tensor for name, tensor in tensors.items()}
    model = AICT()
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ renamed.keys())
    wrong += [n for n in expected.keys() & renamed.keys() if expected[n].shape != renamed[n].shape]
    if wrong:
        raise UserError(
            f"{path} is no checkpoint of AICT: {wrong[0]} is missing, unknown or of another shape "
            f"({len(wrong)} such tensors)"
        )
    model.load_state_dict(renamed)
    return model.eval()


_RENAMED = {
    "encoder.patch_to_embedding.1": "embed",
    "encoder.transformer_enc.layers": "encoder",
    "decoder.dec": "upsample",
    "bottom_convs": "scene",
    "class_layer": "weights",
    "colors_layer": "heads.0",
    "params_layer": "heads.1",
}


def _renamed(name: str) -> str:
    for theirs, ours in _RENAMED.items():
        if name.startswith(theirs + "."):
            return ours + name.removeprefix(theirs)
    return name
