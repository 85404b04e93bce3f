"""Naming of one clip as a run does it, step by step."""

from ovvol_bench.naming.localize import gather_evidence, name_pooled, pool_slots, winning_slots


def name_clip(masks, patches, text, settings, frame_size):
    """Localization of a clip from masks (K, S, h, w) and patches (T, h', w', E)."""
    slots = winning_slots(masks, frames=len(patches))
    pooled = pool_slots(slots, len(masks), patches)
    return name_pooled(slots, pooled, text, settings, frame_size, gather_evidence(settings, slots, masks))
