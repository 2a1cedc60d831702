"""Plans: what is trained, in which order, what is shared, and what contradicts itself."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_training import TINY

from facespace.errors import UsageError
from facespace.losses.margins import ArcFace
from facespace.train.plan import Plan, Variant
from facespace.train.plans import PLANS, find
from facespace.train.recipe import Labels

OTHER = replace(TINY, labels=Labels(ArcFace(0.1), scale=16.0))
CENTRES = replace(TINY, labels=Labels(ArcFace(0.1), scale=16.0, centres=2))
START = (Variant("start", TINY), Variant("start_other", OTHER))
PLAN = Plan(
    "plan",
    (
        Variant("a", TINY),
        Variant("a_cosine", TINY, similarity="cosine"),
        Variant("b", CENTRES, start="start_other"),
        Variant("after_a", OTHER, start="a_cosine"),
        Variant("clean", TINY, clean_with="b"),
    ),
    seeds=2,
    start=START,
    comparisons=(("b", "a"), ("clean", "b"), ("a", "start")),
)


def test_trainings_come_in_an_order_in_which_what_is_built_on_stands_before() -> None:
    names = [run.name for run in PLAN.runs()]
    assert names == [
        *("start-seed0", "start_other-seed0"),
        *("a-seed0", "b-seed0", "after_a-seed0", "clean-seed0"),
        *("a-seed1", "b-seed1", "after_a-seed1", "clean-seed1"),
    ]
    for place, run in enumerate(PLAN.runs()):
        assert set(run.needs) <= set(names[:place])
        assert run.recipe.seed == run.seed


def test_what_a_training_begins_with() -> None:
    """The plan's first start, another one, or the training of a variant with the same seed; starts with nothing."""
    needs = {run.name: (run.start, run.clean_with) for run in PLAN.runs()}
    assert needs["start-seed0"] == needs["start_other-seed0"] == (None, None)
    assert needs["a-seed1"] == ("start-seed0", None)
    assert needs["b-seed1"] == ("start_other-seed0", None)
    assert needs["after_a-seed1"] == ("a-seed1", None)
    assert needs["clean-seed1"] == ("start-seed0", "b-seed1")
    alone = replace(PLAN, start=(), variants=PLAN.variants[:1], comparisons=())
    assert [run.needs for run in alone.runs()] == [(), ()]


def test_variants_with_one_training_share_it() -> None:
    a, cosine = PLAN.variants[:2]
    assert PLAN.run(cosine, 1) == PLAN.run(a, 1)
    assert PLAN.run(START[0], 0).name == "start-seed0"  # of the same recipe as a, but not begun with a start


def test_only_some_variants_and_what_they_build_on() -> None:
    def names(pattern: str) -> list[str]:
        return [variant.name for variant in PLAN.only(pattern).all]

    assert names("*") == [variant.name for variant in PLAN.all]
    assert names("a_*") == ["start", "a", "a_cosine"]  # trained as a: its folder keeps its name
    assert names("after_a") == ["start", "a", "a_cosine", "after_a"]
    assert names("clean") == ["start", "start_other", "b", "clean"]
    assert PLAN.only("clean").comparisons == (("clean", "b"),)
    assert PLAN.only("a").comparisons == (("a", "start"),)
    with pytest.raises(UsageError) as caught:
        PLAN.only("nobody")
    assert "after_a" in caught.value.hint


def test_contradictions_are_refused() -> None:
    a = Variant("a", TINY)
    for wrong in ("", "a/b", "../a", "a b", "-a"):
        with pytest.raises(UsageError, match="name a folder"):
            Variant(wrong, TINY)
    with pytest.raises(UsageError, match="similarity"):
        Variant("a", TINY, similarity="dot")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="different names"):
        Plan("plan", (a, a))
    with pytest.raises(UsageError, match="different names"):
        Plan("plan", ())
    with pytest.raises(UsageError, match="a seed"):
        Plan("plan", (a,), seeds=0)
    for builds_on in ({"start": "b"}, {"clean_with": "c"}, {"start": "c"}):
        with pytest.raises(UsageError, match="not listed before"):
            Plan("plan", (a, Variant("c", TINY, **builds_on), Variant("b", TINY)))
    centres = Variant("centres", CENTRES)
    for base, recipe in ((a, TINY), (centres, replace(TINY, mislabelled=0.1)), (centres, replace(TINY, held_out=2))):
        with pytest.raises(UsageError, match="cannot be cleaned"):
            Plan("plan", (base, Variant("c", recipe, clean_with=base.name)))
    with pytest.raises(UsageError, match=r"\['z'\]"):
        Plan("plan", (a,), comparisons=(("a", "z"),))
    with pytest.raises(UsageError, match="between 0 and 1"):
        Plan("plan", (a,), judged_fars=(1.5,))


def test_plans_are_found_by_name_and_in_files(tmp_path: Path) -> None:
    assert find("demo") is PLANS["demo"]
    assert find("demo", seeds=5).seeds == 5
    path = tmp_path / "mine.py"
    path.write_text("from facespace.train.plans import PLANS\nPLAN = PLANS['demo']\n")
    assert find(str(path)) == PLANS["demo"]
    with pytest.raises(UsageError) as caught:
        find("nothing")
    assert "demo" in caught.value.hint
    with pytest.raises(UsageError, match="no such file"):
        find(str(tmp_path / "absent.py"))
    path.write_text("PLAN = 3\n")
    with pytest.raises(UsageError, match="defines no PLAN"):
        find(str(path))
