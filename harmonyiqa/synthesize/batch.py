"""Composites by the million: what `compose` does to one file, done to a batch of tensors on the device that trains.

The rules are those of `compose`: severity is the mean CIEDE2000 over the region against the same image without the
change, an untouched region goes the same way as an altered one, a whole-photo change counts for nothing, and a pasted
region that fits in colour counts as untouched.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from harmonyiqa.color import delta_e_2000, lab_statistics, lab_to_srgb, reinhard, srgb_to_lab
from harmonyiqa.synthesize.bank import PhotoBank
from harmonyiqa.synthesize.jpeg import jpeg
from harmonyiqa.synthesize.recipe import PASTE, Composites, Plan, Recipe, with_twins
from harmonyiqa.synthesize.severity import Change, delta_e_quantiles
from harmonyiqa.synthesize.transforms import PARAMETRIC, TRANSFER, Draw, is_near_grey, statistics

_SAMPLE = 192  # colours of a region on which strengths are searched and severity is measured
_BISECTIONS = 8
_FEWEST = 32  # pixels of a pasted region
_NATURAL = 0.5  # the strength at which a transfer gives the donor's own statistics


class BatchMaker:
    """Draws batches from a bank.

    Args:
        bank: photos and regions, on the device where batches are made.
        size: side T of the images, a multiple of 8.
        recipe: what is made.
        luts: photographic colour tables (L, 3, 17, 17, 17), indexed b, g, r; another family if given.
        seed: seeds everything drawn.
    """

    def __init__(
        self,
        bank: PhotoBank,
        size: int,
        recipe: Recipe | None = None,
        luts: torch.Tensor | None = None,
        seed: int = 0,
    ) -> None:
        self.bank = bank
        self.size = size
        self.recipe = recipe or Recipe()
        self.device = bank.rgb.device
        self.seed = seed
        self.generator = torch.Generator(self.device).manual_seed(seed)
        every: dict[str, Draw] = PARAMETRIC | TRANSFER
        if luts is not None:
            every["lut"] = _lut_family(luts, self._integers)
        unknown = set(self.recipe.families) - set(every)
        if unknown:
            raise ValueError(f"unknown family {sorted(unknown)[0]!r}; one of {', '.join(every)}")
        self.families = {name: every[name] for name in self.recipe.families}
        between = self.recipe.between
        severities = torch.linspace(*between, 2048) if between else torch.from_numpy(delta_e_quantiles(2048))
        self._severities = severities.to(self.device)
        sources = bank.sources
        self._of_source = [(sources == s).nonzero().flatten() for s in sources.unique()]
        self._same_class = {int(c): (bank.classes == c).nonzero().flatten() for c in bank.classes.unique()}

    def severities(self, n: int) -> torch.Tensor:
        """Severities (n,) that the recipe asks for."""
        return self.plan(n).target

    def draw(self, n: int, recipe: Recipe | None = None) -> Composites:
        """The next batch of n, as the recipe says: the maker's, or another in the same families."""
        return self.make(self.plan(n, recipe))

    def batch(self, number: int, n: int, recipe: Recipe | None = None) -> Composites:
        """Batch `number`, the same whenever and wherever this maker's seed and photos make it."""
        self.generator.manual_seed(self.seed * 1_000_003 + number)
        return self.draw(n, recipe)

    def plan(self, n: int, recipe: Recipe | None = None) -> Plan:
        """What the recipe draws."""
        recipe = recipe or self.recipe
        if recipe.worn:
            return replace(self.plan(n, replace(recipe, worn=0.0)), worn=self._rand(n) < recipe.worn)
        if recipe.paired:
            altered = self.plan(n - n // 2, replace(recipe, paired=False, untouched=0.0))
            compressed, fitting = self._rand(n // 2) < recipe.compressed, self._rand(n // 2) < 0.5
            return with_twins(altered, compressed, fitting)
        regions, donors = self._draw_regions(n, recipe.source_exponent)
        family = self._integers(len(self.families), (n,))
        pasted = self._rand(n) < recipe.paste
        family[pasted] = PASTE
        target = self._severities[self._integers(len(self._severities), (n,))]
        target[pasted & (self._rand(n) < recipe.matched)] = 0
        target[self._rand(n) < recipe.untouched] = 0
        natural, decoyed, compressed = (
            self._rand(n) < share for share in (recipe.natural, recipe.decoy, recipe.compressed)
        )
        decoy = decoyed * recipe.reach
        return Plan(regions, donors, family, target, natural, decoy, torch.ones_like(natural), compressed)

    @torch.no_grad()
    def make(self, plan: Plan) -> Composites:
        """A batch, as the plan says. A paste that would lie outside is a shift of the region itself."""
        n = len(plan.regions)
        scenes = n - n // 2 if plan.paired else n
        photo, mask = self._crop(plan.regions[:scenes], plan.cropped[:scenes])
        sigma = float(self._rand(1, 0.5, 1.2))
        scene = self._shift_whole(photo, plan.decoy[:scenes])
        photo, mask, scene = (torch.cat([x, x[: n - scenes]]) for x in (photo, mask, scene))
        donor_rgb, donor_mask = self._place(plan.donors, mask)
        pasted = plan.family == PASTE
        gone = pasted & (donor_mask.flatten(1).sum(1) < _FEWEST)
        pasted = pasted & ~gone
        hard = torch.where(pasted[:, None, None, None], donor_mask, mask)
        alpha = _blur(hard, sigma)

        rows, donor_rows = _rows(scene), _rows(donor_rgb)
        inside = self._sample(hard)
        below = _take(rows, inside)
        seen = donor_mask.flatten(1).sum(1) >= _FEWEST
        own = _take(donor_rows, self._sample(donor_mask.where(seen[:, None, None, None], mask)))
        layer = self._layer(rows, donor_rows, below, own, pasted)
        colors = _take(layer, inside)
        family = torch.where(gone, 0, plan.family)
        changed = self._shift(layer, colors, own, family, plan.target, plan.natural)

        share = _take(_rows(alpha), inside)
        before, after = (below + share * (c - below) for c in (colors, _take(changed, inside)))
        severity = delta_e_2000(srgb_to_lab(_quantized(before)), srgb_to_lab(_quantized(after))).mean(1)
        image = self._lay(scene, _images(changed, self.size), alpha, plan.compressed)
        fitting = scene + alpha * (_images(layer, self.size) - scene)
        if plan.worn is not None:
            image = self._wear(image, plan.worn.nonzero().flatten())
        return Composites(image, self._compress(photo), fitting, alpha, severity, pasted)

    # --- what is drawn ---------------------------------------------------------------------------------------------

    def _draw_regions(self, n: int, exponent: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Regions (n,), sources by a power of their size, and donors (n,), half of the same class if there is one."""
        if exponent:
            sizes = torch.tensor([len(each) for each in self._of_source], device=self.device)
            which = torch.multinomial(sizes**exponent, n, replacement=True, generator=self.generator)
        else:
            which = self._integers(len(self._of_source), (n,))
        regions, donors = [], []
        for source in which.tolist():
            pool = self._of_source[source]
            region = int(pool[self._integers(len(pool), ())])
            alike = self._same_class[int(self.bank.classes[region])]
            if int(self.bank.classes[region]) >= 0 and len(alike) > 1 and float(self._rand(1)) < 0.5:
                pool = alike
            regions.append(region)
            donors.append(int(pool[self._integers(len(pool), ())]))
        return torch.tensor(regions, device=self.device), torch.tensor(donors, device=self.device)

    # --- geometry --------------------------------------------------------------------------------------------------

    def _crop(self, regions: torch.Tensor, cropped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Photos (n, 3, T, T) and masks (n, 1, T, T) of 0 and 1, some cropped and mirrored at random."""
        n = len(regions)
        rgb = self.bank.rgb[self.bank.regions[regions, 0]].float() / 255
        mask = self.bank.mask(regions)[:, None].float()
        scale = torch.where(cropped, self._rand(n, 0.65, 1), 1.0)
        offset = (1 - scale)[:, None] * (2 * self._rand(n * 2).view(n, 2) - 1)
        mirror = 1 - 2 * (cropped & (self._rand(n) < 0.5)).float()
        for attempt in ("crop", "whole"):
            theta = torch.zeros(n, 2, 3, device=self.device)
            theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * mirror, scale, offset
            grid = F.affine_grid(theta, [n, 3, self.size, self.size], align_corners=False)
            found = (F.grid_sample(mask, grid, align_corners=False) > 0.5).float()
            share = found.mean((1, 2, 3))
            bad = (share < 0.03) | (share > 0.6)
            if attempt == "crop" and bad.any():
                scale, offset = scale.masked_fill(bad, 1), offset.masked_fill(bad[:, None], 0)
        photo = F.grid_sample(rgb, grid, padding_mode="border", align_corners=False)
        if self.recipe.blobs:
            blob = (self._rand(n) < self.recipe.blobs).nonzero().flatten()
            found[blob] = self._blobs(len(blob))
        return photo.clamp(0, 1), found

    def _blobs(self, n: int) -> torch.Tensor:
        """Masks (n, 1, T, T) of 0 and 1: where smooth noise is highest, 3-40% of the image."""
        noise = self._rand(n * 36).view(n, 1, 6, 6)
        smooth = F.interpolate(noise, (self.size, self.size), mode="bicubic", align_corners=False)
        least = ((1 - self._rand(n, 0.03, 0.4)) * self.size**2).long()[:, None]
        level = smooth.flatten(1).sort(1).values.gather(1, least)
        return (smooth >= level[:, :, None, None]).float()

    def _place(self, donors: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The donors' photos and masks, moved and scaled so that each region lies where `mask` has its own."""
        rgb = self.bank.rgb[self.bank.regions[donors, 0]].float() / 255
        lent = self.bank.mask(donors)[:, None].float()
        (center, area), (center_lent, area_lent) = _moments(mask), _moments(lent)
        scale = (area_lent / area).sqrt().clamp(0.5, 2)
        theta = torch.zeros(len(donors), 2, 3, device=self.device)
        theta[:, 0, 0] = theta[:, 1, 1] = scale
        theta[:, :, 2] = center_lent - scale[:, None] * center
        grid = F.affine_grid(theta, [len(donors), 3, self.size, self.size], align_corners=False)
        placed = F.grid_sample(rgb, grid, padding_mode="border", align_corners=False)
        return placed.clamp(0, 1), (F.grid_sample(lent, grid, align_corners=False) > 0.5).float()

    # --- colour ----------------------------------------------------------------------------------------------------

    def _shift_whole(self, photo: torch.Tensor, decoy: torch.Tensor) -> torch.Tensor:
        """Photos changed as a whole, by the same families, as far as `decoy` (n,) says."""
        chosen = decoy.nonzero().flatten()
        n = len(chosen)
        if not n:
            return photo
        rows = _rows(photo[chosen])
        colors = _take(rows, self._sample(torch.ones_like(photo[chosen, :1])))
        lenders = photo[self._integers(len(photo), (n,))]
        own = _take(_rows(lenders), self._sample(torch.ones_like(lenders[:, :1])))
        target = self._severities[self._integers(len(self._severities), (n,))] * decoy[chosen]
        family = self._integers(len(self.families), (n,))
        changed = self._shift(rows, colors, own, family, target, torch.zeros_like(target, dtype=torch.bool))
        scene = photo.clone()
        scene[chosen] = _images(changed, self.size)
        return scene

    def _layer(
        self,
        scene: torch.Tensor,
        donor: torch.Tensor,
        below: torch.Tensor,
        own: torch.Tensor,
        pasted: torch.Tensor,
    ) -> torch.Tensor:
        """(n, T * T, 3): the scene itself, or where pasted the donor with the statistics of what it covers."""
        layer = scene.clone()
        if pasted.any():
            lab, source = srgb_to_lab(donor[pasted]), lab_statistics(srgb_to_lab(own[pasted]))
            layer[pasted] = lab_to_srgb(reinhard(lab, source, lab_statistics(srgb_to_lab(below[pasted]))))
        return layer

    def _shift(
        self,
        rows: torch.Tensor,
        colors: torch.Tensor,
        own: torch.Tensor,
        family: torch.Tensor,
        target: torch.Tensor,
        natural: torch.Tensor,
    ) -> torch.Tensor:
        """Colours (n, T * T, 3) changed by each image's family, as far as `target` says; a paste towards its own."""
        names = list(self.families)
        hidden = torch.zeros_like(natural)
        for name in ("hue", "saturation"):
            if name in names:
                hidden |= family == names.index(name)
        # near grey they do not show
        family = torch.where(
            hidden & is_near_grey(colors), names.index("exposure") if "exposure" in names else 0, family
        )
        changed = rows.clone()
        for index in family[target > 0].unique().tolist():
            chosen = ((family == index) & (target > 0)).nonzero().flatten()
            draw = statistics if index == PASTE else self.families[names[index]]
            change = draw(self._uniform_for(len(chosen)), colors[chosen], own[chosen])
            strength = self._search(change, colors[chosen], target[chosen])
            if index == PASTE or names[index] in (*TRANSFER, "lut"):
                strength = torch.where(natural[chosen], _NATURAL, strength)
            changed[chosen] = change(rows[chosen], strength[:, None, None])
        return changed

    def _search(self, change: Change, colors: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Strengths (n,) that give the wanted differences, by bisection; 1 where a change does not reach as far."""
        lab = srgb_to_lab(colors)
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            reached = delta_e_2000(lab, srgb_to_lab(change(colors, middle[:, None, None]))).mean(1)
            low, high = (
                torch.where(reached < target, middle, low),
                torch.where(reached < target, high, middle),
            )
        return (low + high) / 2

    # --- the picture -----------------------------------------------------------------------------------------------

    def _lay(
        self, scene: torch.Tensor, layer: torch.Tensor, alpha: torch.Tensor, compressed: torch.Tensor
    ) -> torch.Tensor:
        """The layer over the scene; where wanted the region compressed on its own, and then the whole."""
        apart = self._jpeg(scene + alpha * (layer - scene), compressed, otherwise=layer)
        image = _quantized(scene + alpha * (apart - scene))
        return self._jpeg(image, compressed, otherwise=image)

    def _wear(self, image: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Some images, by index, as they come back after a life on the web."""
        if not len(chosen):
            return image
        side = 8 * int(self._integers(self.size // 16 + 1, ())) + self.size // 2
        small = F.interpolate(image[chosen], (side, side), mode="bilinear", antialias=True)
        found = F.interpolate(small, (self.size, self.size), mode="bicubic", align_corners=False)
        noise = torch.randn(found.shape, generator=self.generator, device=self.device)
        found = (found + self._rand(len(chosen), 0, 0.02)[:, None, None, None] * noise).clamp(0, 1)
        worn = image.clone()
        worn[chosen] = jpeg(found, self._rand(len(chosen), 60, 95))
        return worn

    def _compress(self, photo: torch.Tensor) -> torch.Tensor:
        hit = self._rand(len(photo)) < self.recipe.compressed
        return self._jpeg(photo, hit, otherwise=_quantized(photo))

    def _jpeg(self, image: torch.Tensor, hit: torch.Tensor, *, otherwise: torch.Tensor) -> torch.Tensor:
        """Images (n, 3, T, T) compressed where `hit` (n,), the others taken from `otherwise`."""
        quality = self._rand(len(image), 85, 97)
        found = otherwise.clone()
        found[hit] = jpeg(image[hit], quality[hit])
        return found

    # --- chance ----------------------------------------------------------------------------------------------------

    def _rand(self, n: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=self.generator, device=self.device)

    def _integers(self, high: int, shape: Sequence[int]) -> torch.Tensor:
        return torch.randint(high, tuple(shape), generator=self.generator, device=self.device)

    def _uniform_for(self, n: int) -> Callable[[float, float], torch.Tensor]:
        return lambda low, high: self._rand(n, low, high).view(-1, 1, 1)

    def _sample(self, mask: torch.Tensor) -> torch.Tensor:
        """(n, K): flat positions of pixels inside each mask (n, 1, T, T)."""
        return torch.multinomial(mask.flatten(1) + 1e-9, _SAMPLE, replacement=True, generator=self.generator)


def _lut_family(luts: torch.Tensor, integers: Callable[..., torch.Tensor]) -> Draw:
    """Photographic looks as a family: strength 0.5 is the look itself, 1 as far again beyond."""

    def draw(uniform: Any, colors: torch.Tensor, donor: torch.Tensor) -> Change:
        tables = luts[integers(len(luts), (len(colors),))]

        def change(rgb: torch.Tensor, strength: Any) -> torch.Tensor:
            grid = (2 * rgb - 1)[:, None, None]  # grid_sample wants x (red) first
            found = F.grid_sample(tables, grid, padding_mode="border", align_corners=True)
            found = found[:, :, 0, 0].transpose(1, 2)
            return (rgb + 2 * strength * (found - rgb)).clamp(0, 1)

        return change

    return draw


def _rows(images: torch.Tensor) -> torch.Tensor:
    """(n, C, T, T) -> (n, T * T, C)."""
    return images.flatten(2).transpose(1, 2)


def _images(rows: torch.Tensor, size: int) -> torch.Tensor:
    """(n, T * T, C) -> (n, C, T, T)."""
    return rows.transpose(1, 2).unflatten(2, (size, size))


def _take(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows (n, N, C) at (n, K) -> (n, K, C)."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))


def _quantized(values: torch.Tensor) -> torch.Tensor:
    return (values.clamp(0, 1) * 255).round() / 255


def _moments(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre (n, 2) as x, y in -1..1, and area (n,) as a share, of masks (n, 1, T, T)."""
    side = mask.shape[-1]
    place = (torch.arange(side, device=mask.device) + 0.5) / side * 2 - 1
    total = mask.sum((1, 2, 3)).clamp_min(1)
    x = (mask.sum((1, 2)) * place).sum(1) / total
    y = (mask.sum((1, 3)) * place).sum(1) / total
    return torch.stack([x, y], 1), total / side**2


def _blur(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of (n, 1, T, T); sigma in pixels."""
    reach = max(1, round(3 * sigma))
    x = torch.arange(-reach, reach + 1, device=mask.device)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    mask = F.conv2d(F.pad(mask, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(mask, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
