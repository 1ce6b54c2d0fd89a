"""Every claim is judged by its figures: made-up ones that hold, and for each claim a change that makes it fail."""

import copy

import pytest

from offramp.replications import binary_relax, dnr, feedback, gap


def net(**figures):
    return {"clean": 0.9, "pgd20": 0.5, **figures}


GAP = {
    "dense": {"clean": 0.92, "target": 0.2},
    **{f"{rule}-{c}": {"clean": 0.9, "target": 0.5, "white_box": 0.1} for rule in ("gap", "magnitude") for c in (2, 4)},
    "control-4": {"clean": 0.9, "target": 0.4},
    "int8": {"clean": 0.9, "target": 0.5},
}
GAP["magnitude-4"]["target"] = 0.3
DNR = {
    **{name: net(mean=0.7, products=100.0) for name in ("dnr", "equal-products")},
    **{name: net(mean=0.6, products=50.0) for name in ("static", "one-shot", "channel")},
    "beta-0.3": net(clean=0.85, pgd20=0.55),
    "beta-0.7": net(clean=0.95, pgd20=0.45),
    "nonzero": {"dnr": [100, 100], "channel": [200, 200]},
    "densities": {"first": 0.5, "second": 0.1},
    "int8": {"robustness": {"clean": 0.9, "pgd20": 0.5, "apgd": 0.49, "square": 0.6, "worst": 0.45}},
}
FEEDBACK = {
    "classes": ["cat", "dog"],
    "plain": {
        "clean": 0.9, "noise": 0.8, "brightness": 0.8, "fgsm": 0.5, "distance": 0.1, "inequality": 0.8,
        "adversarial": [0.08, 0.12],
    },
    "feedback": {
        "clean": 0.9, "noise": 0.82, "brightness": 0.8, "fgsm": 0.6, "distance": 0.13, "inequality": 0.4,
        "adversarial": [0.12, 0.14],
    },
    "uniform": {"distance": 0.13, "inequality": 0.6},
}  # fmt: skip
RELAX = {
    **{
        name: net(zero_weights=0.42, channel_sparsity=share, weakest_channels=0.5)
        for name, share in (("relaxed", 0.3), ("trade-off", 0.2), ("adversarial", 0.1), ("pair", 0.2))
    },
    "connect": net(clean=0.89),
    "with_noise": {"clean": 0.9, "one_draw": 0.5, "mean_of_draws": 0.5},
    "int8-trade-off": {"levels": [0, 1]},
    "int8-pair": {"levels": [1]},
}
RELAX["adversarial"]["clean"] = 0.85

#: A claim's first words, and a change of one figure that refutes it.
CASES = [
    (gap, GAP, "pruned adversarially", ("gap-4", "clean"), 0.87),
    (gap, GAP, "at a quarter", ("gap-4", "target"), 0.34),
    (gap, GAP, "attacked itself", ("gap-2", "white_box"), 0.6),
    (gap, GAP, "int8 changes", ("int8", "target"), 0.46),
    (gap, GAP, "the resistance comes", ("control-4", "target"), 0.55),
    (dnr, DNR, "the number of nonzero", ("nonzero", "channel"), [199, 200]),
    (dnr, DNR, "rewiring beats", ("one-shot", "mean"), 0.75),
    (dnr, DNR, "densities of layers", ("densities", "second"), 0.3),
    (dnr, DNR, "more weight on clean", ("beta-0.7", "pgd20"), 0.52),
    (dnr, DNR, "single weights beat", ("channel", "mean"), 0.8),
    (dnr, DNR, "stronger attacks", ("int8", "robustness", "worst"), 0.4),
    (feedback, FEEDBACK, "classes are unequal", ("plain", "adversarial"), [0.1, 0.11]),
    (feedback, FEEDBACK, "three rounds", ("feedback", "distance"), 0.11),
    (feedback, FEEDBACK, "what isn't adversarial", ("feedback", "brightness"), 0.7),
    (feedback, FEEDBACK, "examples in proportion", ("uniform", "inequality"), 0.3),
    (binary_relax, RELAX, "Binary-Relax is", ("connect", "clean"), 0.91),
    (binary_relax, RELAX, "at least 35 %", ("pair", "zero_weights"), 0.3),
    (binary_relax, RELAX, "adversarial training empties", ("trade-off", "channel_sparsity"), 0.1),
    (binary_relax, RELAX, "the trade-off loss", ("trade-off", "pgd20"), 0.4),
    (binary_relax, RELAX, "noise in use", ("with_noise", "mean_of_draws"), 0.4),
    (binary_relax, RELAX, "two members", ("pair", "clean"), 0.8),
    (binary_relax, RELAX, "in the integers", ("int8-pair", "levels"), [1, 2]),
]


@pytest.mark.parametrize(("module", "figures", "words", "path", "value"), CASES)
def test_a_claim_holds_and_fails(module, figures, words, path, value):
    changed = copy.deepcopy(figures)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    outcomes = []
    for given in (figures, changed):
        (found,) = (check["holds"] for check in module.checks(given, {}) if check["claim"].startswith(words))
        outcomes.append(found)
    assert outcomes == [True, False]


@pytest.mark.parametrize(("module", "figures"), [(gap, GAP), (dnr, DNR), (feedback, FEEDBACK), (binary_relax, RELAX)])
def test_every_claim_has_a_case(module, figures):
    claims = [check["claim"] for check in module.checks(figures, {})]
    tried = [words for other, _, words, _, _ in CASES if other is module]
    assert len(claims) == len(tried)
    assert all(any(claim.startswith(words) for words in tried) for claim in claims)
