"""Statistics of paired answers: pure functions, each with its source and a doctest."""

from gapshift.reports.statistics.ability import ability, ability_shift, predicted_drop
from gapshift.reports.statistics.base import Estimate, two_sided_z
from gapshift.reports.statistics.bootstrap import stratified_mean
from gapshift.reports.statistics.calibration import debiased_ece, ece_difference
from gapshift.reports.statistics.clusters import (
    Clustering,
    clustered_interval,
    clustered_margin_test,
    clustered_share,
    clustered_test,
    clustering,
    clusters_of,
    design_effect,
    effective_clusters,
)
from gapshift.reports.statistics.compound import mover_difference, mover_mean
from gapshift.reports.statistics.gate_power import (
    certifiable_margin,
    detectable_drop,
    discordance,
    fail_probability,
    items_for,
    margin_for_zero,
    pass_probability,
)
from gapshift.reports.statistics.margin import exact_tail, margin_test, mended, score_statistics
from gapshift.reports.statistics.multiple import benjamini_hochberg, holm
from gapshift.reports.statistics.ordering import Swapped, swapped_share
from gapshift.reports.statistics.paired import (
    mcnemar_midp,
    score_test,
    tango_interval,
)
from gapshift.reports.statistics.power import items_for_zero, items_to_decide
from gapshift.reports.statistics.proportions import clopper_pearson, wilson
from gapshift.reports.statistics.seeds import over_seeds_and_items, paired_contrast
from gapshift.reports.statistics.sequential import (
    SequentialRule,
    confidence_sequence,
    first_decision,
    items_until,
    log_e_values,
)
from gapshift.reports.statistics.shapley import MOST_PLAYERS, mean_difference, shapley_values
from gapshift.reports.statistics.slope import loss_slope
from gapshift.reports.statistics.smooth import smooth_ece, smooth_ece_difference
from gapshift.reports.statistics.weighted import clustered_drop, even_groups_drop, stratified_drop

__all__ = [
    "MOST_PLAYERS",
    "Clustering",
    "Estimate",
    "SequentialRule",
    "Swapped",
    "ability",
    "ability_shift",
    "benjamini_hochberg",
    "certifiable_margin",
    "clopper_pearson",
    "clustered_drop",
    "clustered_interval",
    "clustered_margin_test",
    "clustered_share",
    "clustered_test",
    "clustering",
    "clusters_of",
    "confidence_sequence",
    "debiased_ece",
    "design_effect",
    "detectable_drop",
    "discordance",
    "ece_difference",
    "effective_clusters",
    "even_groups_drop",
    "exact_tail",
    "fail_probability",
    "first_decision",
    "holm",
    "items_for",
    "items_for_zero",
    "items_to_decide",
    "items_until",
    "log_e_values",
    "loss_slope",
    "margin_for_zero",
    "margin_test",
    "mcnemar_midp",
    "mean_difference",
    "mended",
    "mover_difference",
    "mover_mean",
    "over_seeds_and_items",
    "paired_contrast",
    "pass_probability",
    "predicted_drop",
    "score_statistics",
    "score_test",
    "shapley_values",
    "smooth_ece",
    "smooth_ece_difference",
    "stratified_drop",
    "stratified_mean",
    "swapped_share",
    "tango_interval",
    "two_sided_z",
    "wilson",
]
