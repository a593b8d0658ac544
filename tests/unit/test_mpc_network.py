"""What a training script may declare, what is refused, and what its digest covers. Needs no SPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hansa import errors
from hansa.app import Site
from hansa.mpc import (
    OWNERS,
    Conv,
    Dense,
    Flatten,
    Logistic,
    Network,
    ReLU,
    Reveal,
    Sgd,
    SoftmaxCrossEntropy,
    Squared,
    SumPool,
    Training,
)
from hansa.mpc.layout import Arrangement
from hansa.mpc.network import description_digest
from hansa.mpc.training import load_training, script_digest

NOISED = Reveal(to=2, clip=1.0, noise=4.0, gradient_clip=2.0, gradient_noise=3.0)
BARE = Reveal(to=2)


def training(layers: list[Any], **changes: Any) -> Training:
    options: dict[str, Any] = {
        "inputs": (8,),
        "loss": SoftmaxCrossEntropy(),
        "optimizer": Sgd(lr=0.5),
        "epochs": 3,
        "batch": 16,
        "seed": 7,
    } | changes
    return Training(Network(layers, inputs=options.pop("inputs")), **options)


def test_layers_are_secret_unless_declared_plain() -> None:
    layout = training([Dense(6), ReLU(), Dense(3)]).layout
    assert layout.arrangement is Arrangement.CIPHERTEXT
    assert [(p.name, p.place, p.outputs) for p in layout.layers] == [
        ("dense1", None, (6,)),
        ("relu2", None, (6,)),
        ("dense3", None, (3,)),
    ]


def test_a_frozen_bottom_is_the_owners_own() -> None:
    layout = training([Dense(6, at=OWNERS, frozen=True), ReLU(), Dense(3)]).layout
    assert layout.arrangement is Arrangement.OWNER_BOTTOM
    assert [p.name for p in layout.bottom] == ["dense1", "relu2"]
    assert layout.inputs == (6,)


def test_a_noised_bottleneck_keeps_labels_shared() -> None:
    layout = training([Dense(6), ReLU(), NOISED, Dense(5, at=2), ReLU(), Dense(3, at=2)], norm=3.0).layout
    assert layout.arrangement is Arrangement.BOTTLENECK
    assert [segment.place for segment in layout.segments] == [None, 2]


def test_the_published_form_needs_a_signature_under_its_leaks() -> None:
    layers = [Dense(6), ReLU(), BARE, Dense(5, at=2), ReLU(), Dense(3, at=2)]
    declared = training(layers, accept_leakage=True, labels=BARE)
    assert declared.layout.arrangement is Arrangement.PUBLISHED
    with pytest.raises(errors.Misconfigured, match="opened to party 2") as refused:
        training(layers, labels=BARE)
    assert "accept_leakage=True" in refused.value.hint


def test_shapes_follow_convolution_and_pooling() -> None:
    layout = training([Conv(4, 3), ReLU(), SumPool(2), Flatten(), Dense(3)], inputs=(8, 8, 1)).layout
    assert [p.outputs for p in layout.layers] == [(6, 6, 4), (6, 6, 4), (3, 3, 4), (36,), (3,)]
    assert layout.layers[0].parameters == {"conv1.weight": (9, 4), "conv1.bias": (4,)}


@pytest.mark.parametrize(
    ("layers", "changes", "said", "hint"),
    [
        ([Dense(6), Dense(3, at=2)], {}, "no Reveal before it", "secret=True"),
        ([Dense(6), BARE, Dense(3, at=1)], {}, "revealed to 2", "same party"),
        ([Dense(6), BARE, Dense(3)], {}, "would serve nothing", "Remove the Reveal"),
        ([Dense(6), Dense(3), BARE], {}, "ends with a Reveal", "Remove"),
        ([Dense(6), BARE, BARE, Dense(3, at=2)], {}, "plain already", "Remove"),
        ([Dense(6, at=OWNERS), Dense(3)], {}, "100 %", "frozen=True"),
        ([Dense(6), Dense(3, at=OWNERS, frozen=True)], {}, "behind layers", "secret"),
        ([Dense(6, frozen=True), Dense(3)], {}, "not at the owners", "at=OWNERS"),
        ([Dense(6, at=OWNERS, frozen=True, weights="w.safetensors"), Dense(3)], {}, "digest", "SHA-256"),
        ([Dense(6, at=OWNERS, frozen=True, weights="../w", digest="0" * 64), Dense(3)], {}, "path", "beside"),
        ([Dense(6, secret=False), Dense(3)], {}, "neither secret nor", "secret=True"),
        ([Dense(6, secret=True, at=2), Dense(3)], {}, "both secret", "alone"),
        ([Dense(3, at=OWNERS, frozen=True)], {}, "left to train", "last Dense"),
        ([ReLU()], {}, "no layer with weights", "Dense"),
        ([Dense(6), NOISED, Dense(3, at=2)], {}, "norm=", "epsilon"),
        ([Dense(6), Dense(5), NOISED, Dense(3, at=2)], {"norm": 1.0}, "one secret Dense", "behind it secret"),
        ([Dense(6), NOISED, Dense(3, at=2)], {"norm": 1.0, "accept_leakage": True}, "noised", "Remove"),
        (
            [Dense(6), NOISED, Dense(5, at=2), Dense(3, secret=True)],
            {"norm": 1.0},
            "one boundary",
            "to the end",
        ),
        ([Dense(6), NOISED, Dense(3, at=2)], {"norm": 1.0, "loss": Squared()}, "no bound", "Logistic"),
        ([Dense(6), Reveal(to=2, clip=1.0), Dense(3, at=2)], {}, "not all", "all four"),
        ([Dense(6), Reveal(to=3), Dense(3, at=3)], {}, "no computing party", "0 to 2"),
        ([Dense(6), Reveal(to=2), Dense(3, at=2)], {"protocol": "CHEETAH"}, "no computing party", "0 to 1"),
        (
            [Dense(6), BARE, Dense(3, at=2)],
            {"accept_leakage": True},
            "labels are not revealed",
            "labels stay shared",
        ),
        (
            [Dense(6), Dense(3)],
            {"labels": BARE, "accept_leakage": True},
            "labels are revealed",
            "labels=None",
        ),
        ([Dense(6), Dense(3)], {"accept_leakage": True}, "nothing leaks", "Remove"),
        ([Dense(3)], {"protocol": "SECURENN"}, "SECURENN", "ABY3"),
        ([Dense(3)], {"protocol": "SEMI2K"}, "SEMI2K", "ABY3"),
        ([Dense(3)], {"field": "FM32"}, "FM32", "FM64"),
        ([Dense(3)], {"epochs": 0}, "epochs", ""),
        ([Dense(3)], {"optimizer": Sgd(lr=float("nan"))}, "lr", ""),
        ([Dense(3)], {"optimizer": Sgd(lr=0.1, momentum=1.0)}, "momentum", ""),
        ([Dense(3)], {"loss": Logistic()}, "outputs of shape", "Dense(1)"),
        ([Dense(3)], {"bound": 2.0**26}, "fails silently", "Standardise"),
        ([Dense(3)], {"columns": (3, 4)}, "columns", "add up"),
        ([Dense(3)], {"columns": (3, 5), "labels_by": 2}, "labels by owner 2", "add up"),
        ([Dense(3)], {"inputs": (8, 8, 1)}, "rows of shape", "Flatten"),
        ([Conv(4, 9), Flatten(), Dense(3)], {"inputs": (8, 8, 1)}, "cannot take", "smaller"),
        ([Conv(4, 2), SumPool(2), Flatten(), Dense(3)], {"inputs": (8, 8, 1)}, "divide", "multiples"),
        ([Dense(3), "relu"], {}, "no layer", "Layers:"),
    ],
)
def test_what_is_wrong_or_undeclared_is_refused(
    layers: list[Any], changes: dict[str, Any], said: str, hint: str
) -> None:
    with pytest.raises(errors.Misconfigured) as refused:
        training(layers, **changes)
    assert said in str(refused.value)
    assert hint in refused.value.hint


def test_the_digest_covers_every_choice() -> None:
    variants = [
        training([Dense(6), ReLU(), Dense(3)]),
        training([Dense(6), Dense(3)]),
        training([Dense(7), ReLU(), Dense(3)]),
        training([Dense(6), ReLU(), Dense(3)], seed=8),
        training([Dense(6), ReLU(), Dense(3)], optimizer=Sgd(lr=0.25)),
        training([Dense(6), ReLU(), Dense(3)], loss=Squared()),
        training([Dense(6, at=OWNERS, frozen=True), ReLU(), Dense(3)]),
        training([Dense(6), ReLU(), Dense(3)], norm=2.0),
    ]
    digests = {description_digest(v.declared) for v in variants}
    assert len(digests) == len(variants)
    assert description_digest(training([Dense(6), ReLU(), Dense(3)]).declared) in digests


SCRIPT = """
from hansa.mpc import *
training = Training(Network([Dense(2)], inputs=(3,)), loss=SoftmaxCrossEntropy(), optimizer=Sgd(lr=0.1),
                    epochs=1, batch=2, seed=0)
@training.rows
def rows(site):
    return [site.index], [[1.0, 2.0, 3.0]], [0]
"""


def test_a_script_is_read_and_pinned(tmp_path: Path) -> None:
    path = tmp_path / "training.py"
    path.write_text(SCRIPT)
    loaded = load_training(path, digest=script_digest(path))
    assert loaded.read_rows(Site(tmp_path, "m1", 1, 0)) == ([1], [[1.0, 2.0, 3.0]], [0])
    with pytest.raises(errors.Misconfigured, match="the terms pin"):
        load_training(path, digest=bytes(32))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1", "no variable `training`"),
        ("1 / 0", "ZeroDivisionError"),
        ("import nothing_of_the_kind", "nothing_of"),
    ],
)
def test_a_script_that_is_none_is_refused(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "training.py"
    path.write_text(source)
    with pytest.raises(errors.Misconfigured, match=said):
        load_training(path)
    with pytest.raises(errors.Misconfigured, match="cannot read"):
        load_training(tmp_path / "absent.py")


def test_reading_a_script_needs_neither_jax_nor_spu() -> None:
    code = "import sys, hansa.mpc; print(sorted({'jax', 'spu', 'dp_accounting'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
